"""Which side of a held-out split an item of a built-in subject falls on, by its content alone."""

import hashlib
import json
from typing import Literal

Split = Literal["train", "explore", "confirm"]


def side(*parts: object) -> Split:
    """A tenth of all contents is `explore`, another `confirm`; only `train` is what a subject is taught."""
    u = share(*parts)
    return "explore" if u < 0.1 else "confirm" if u < 0.2 else "train"


def share(*parts: object) -> float:
    """A number from 0 up to 1, the same for the same content."""
    digest = hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).digest()
    return int.from_bytes(digest[:8], "big") / 2**64
