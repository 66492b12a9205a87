"""Copies of a stack's blocks for the lanes: other modules, whose hooks are their own, over the same weights."""

import copy
from typing import Any

from torch import Tensor, nn

COLLECTING = (
    "transformers.utils.output_capturing"  # its hooks stay once outputs were asked for, and do nothing by themselves
)


class Shells:
    """A copy of the blocks for each lane, made when they are first needed and again when the model's modules have changed."""

    def __init__(self) -> None:
        self._made: list[nn.ModuleList] = []
        self._of: list[object] = []

    def of(self, lane: int) -> nn.ModuleList | None:
        """A lane's blocks; None outside of lanes and where none were made."""
        return self._made[lane - 1] if 0 < lane <= len(self._made) else None

    def prepare(self, blocks: nn.ModuleList, count: int) -> bool:
        """Have as many copies as there are lanes. False where somebody's hooks, which might not bear copying, are on a block.

        To be called while nobody runs the blocks or records them.
        """
        weights, modules, plain = list[Any](), list[nn.Module](blocks), True
        for module in modules:
            within = vars(module)
            modules += [m for m in within["_modules"].values() if m is not None]
            weights += [t for kind in ("_parameters", "_buffers") for t in within[kind].values() if t is not None]
            weights += [t for t in within.values() if isinstance(t, Tensor)]
            hooks = [*within["_forward_hooks"].values(), *within["_forward_pre_hooks"].values()]
            plain = plain and "forward" not in within and all(getattr(h, "__module__", "") == COLLECTING for h in hooks)
        known: list[object] = [*modules, *weights]
        if not plain:
            self._made, self._of = [], []
            return False
        if len(known) != len(self._of) or any(a is not b for a, b in zip(known, self._of, strict=True)):
            self._made, self._of = [], known
        try:
            while len(self._made) < count:
                self._made.append(copy.deepcopy(blocks, {id(w): w for w in weights}))
        except Exception:  # noqa: BLE001  # whatever a block holds that cannot be copied
            self._made, self._of = [], []
            return False
        return True
