"""Try to claim what is not so: `python -m benchmarks.claims`. See the package's modules for the classes."""

import argparse
import random
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

from benchmarks.claims import measured
from benchmarks.claims.case import Case
from benchmarks.claims.stage import Stage
from benchmarks.claims.worlds import Worlds

