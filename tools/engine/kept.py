"""What unchanged runs gave, kept for the next experiment on the same batch, within a budget of memory.

A state is found under everything that decides its bits: the model's weights as they are now, the batch, the stack, and the
blocks run so far, each on the batch once and without edits. Whether it is found or computed again is the same to the last bit,
for nothing about a batch's shape is decided by what is kept.
"""

import hashlib
import itertools
import threading
import weakref
from collections import OrderedDict
from collections.abc import Hashable, Mapping
from pathlib import Path

import torch
from torch import Tensor, nn

SHARE = 8  # by default, of the memory that is free
_numbers: "weakref.WeakKeyDictionary[nn.Module, int]" = weakref.WeakKeyDictionary()
_next_number = itertools.count()


class Kept:
    """Tensors by key, the least recently used given up first.

    limit: bytes at most; 0 keeps nothing.
    """

    def __init__(self, limit: int) -> None:
        if limit < 0:
            raise ValueError(f"a memory limit is 0 or more bytes, not {limit}")
        self.limit, self.used, self.found = limit, 0, 0
        self._entries: OrderedDict[Hashable, tuple[Tensor, ...]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: Hashable) -> tuple[Tensor, ...] | None:
        """What was kept under a key; it must not be written to. None where nothing is."""
        with self._lock:
            entry = self._entries.get(key)
            if entry is not None:
                self._entries.move_to_end(key)
                self.found += 1
            return entry

    def put(self, key: Hashable, *tensors: Tensor) -> None:
        """Keep tensors, which nobody may write to afterwards, and give up others where the budget asks for it."""
        own = tuple(t if t.untyped_storage().nbytes() <= _size(t) else t.clone() for t in tensors)
        size = sum(map(_size, own))
        if size > self.limit:
            return
        with self._lock:
            self._drop(key)
            while self.used + size > self.limit:
                self._drop(next(iter(self._entries)))
            self._entries[key] = own
            self.used += size

    def clear(self) -> None:
        """Give everything up."""
        with self._lock:
            self._entries.clear()
            self.used = 0

    def _drop(self, key: Hashable) -> None:
        self.used -= sum(map(_size, self._entries.pop(key, ())))


def _size(tensor: Tensor) -> int:
    return tensor.numel() * tensor.element_size()


def share_of_free(device: torch.device) -> int:
    """Bytes that may be kept where nobody has said how many: an eighth of what is free where the model is."""
    if device.type == "cuda":
        return torch.cuda.mem_get_info(device)[0] // SHARE
    try:
        lines = Path("/proc/meminfo").read_text(encoding="ascii").splitlines()
    except OSError:
        return 2**30 // SHARE
    free = next((int(line.split()[1]) for line in lines if line.startswith("MemAvailable")), 2**20)
    return free * 2**10 // SHARE


def _number(model: nn.Module) -> int:
    """The same for one model as long as it is there, and never that of another."""
    if model not in _numbers:
        _numbers[model] = next(_next_number)
    return _numbers[model]


def _parameters(model: nn.Module) -> list[Tensor]:
    """Every module's own parameters, some twice: to go through them so takes a tenth of what `model.parameters` does."""
    found, todo = list[Tensor](), list[nn.Module]([model])
    while todo:
        within = vars(todo.pop())
        found += [p for p in within["_parameters"].values() if p is not None]
        todo += [m for m in within["_modules"].values() if m is not None]
    return found


def batch_key(model: nn.Module, stack: str, *parts: Mapping[str, Tensor]) -> str:
    """What tells this stack and this batch from any other of one model; parts: the tensors that a run of the stack is given.

    Of the weights not the values but where they lie and how often they were written to: a change makes another key. A model
    has a number of its own, since another may lie where one lay that is gone.
    """
    digest = hashlib.blake2b(f"{_number(model)} {stack}".encode(), digest_size=20)
    digest.update(repr([(p.data_ptr(), p._version) for p in _parameters(model)]).encode())
    for part in parts:
        for name, tensor in sorted(part.items()):
            digest.update(f"\0{name} {tensor.dtype} {tuple(tensor.shape)}\0".encode())
            digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
        digest.update(b"\1")
    return digest.hexdigest()
