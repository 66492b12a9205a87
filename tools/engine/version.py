"""The version of what computes: results name theirs, and replay computes with it, to the last bit."""

from collections.abc import Generator
from contextlib import contextmanager, nullcontext

import torch

from tools.engine.kernels import Kernels, using
from tools.engine.lanes import undivided

ENGINE = 6  # of results that are computed now
NARROW = 2  # the first one that runs a variant's last block only where it is read: before, over every position
LANES = 3  # the first one that runs a sweep's batches side by side, and activation functions by torch's own kernels
SPARING = 4  # the first one whose sequential sweeps run a control only beside what does something
PRODUCTS = 4  # the first one that multiplies with oneDNN where a processor gains by it
ALIKE = 4  # the first one whose batches have rows of nearly one length
TOGETHER = 4  # the first one in whose batches examples of several tasks lie together
APART = 5  # the first one whose contrasts of a few conditions run batches of a few examples side by side
ONCE = 6  # the first one that reads the intact model of a finding once, for however many conditions
NAMED = 6  # the first one whose `@each` leaves out positions that are named beside it
BEGUN = 6  # the first one whose layer programs run once what all prompts of a batch begin with
SMALL = 512  # channels up to which dividing a product among threads costs more than it gives


@contextmanager
def evaluating(engine: int, device: torch.device, width: int) -> Generator[None]:
    """Inference without gradients; where blocks of this width are too small to be divided, with one thread."""
    small = engine >= LANES and device.type == "cpu" and width <= SMALL
    kernels = Kernels(activations=engine >= LANES, products=engine >= PRODUCTS)
    with torch.inference_mode(), using(kernels), undivided() if small else nullcontext():
        yield
