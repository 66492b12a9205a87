"""One model over several devices: blocks where the map puts them, everything else on one, and states that come home.

accelerate's hooks carry what a block is given to where its weights lie, and what it answers back. So the residual stream is on one
device for whoever reads, edits or batches it, and any block can follow any other.
"""

from collections.abc import Iterable, Mapping
from typing import Any

import torch
from torch import nn

from tools.subjects._runs import SubjectError

DeviceMap = str | Mapping[str, str | int]
MENDS = "give each block to a device that holds it (cpu alone, or cuda:0, cuda:1 ...), take a smaller dtype, or more devices"


def checked(device_map: DeviceMap) -> str | dict[str, Any]:
    """A device map as transformers takes it; SubjectError where accelerate is missing, or a place is none to compute at."""
    try:
        import accelerate as _  # noqa: F401 (transformers loads with it)
    except ImportError:
        raise SubjectError("a device map needs accelerate: pip install 'locus-agent[accelerate]'") from None
    if isinstance(device_map, str):
        if device_map != "auto":
            raise SubjectError(f"device map {device_map!r} is unknown: use auto, or a map from modules to devices")
        return device_map
    for module, device in device_map.items():
        if not module and len(device_map) > 1:
            raise SubjectError("device map: '' stands for the whole model and has to stand alone")
        _check_device(module, device)
    if not device_map:
        raise SubjectError("the device map is empty: use auto, or a map from modules to devices")
    return dict(device_map)


def _check_device(module: str, device: object) -> None:
    where = f"device map: {module or 'the model'} on {device!r}"
    if isinstance(device, bool) or not isinstance(device, str | int):
        raise SubjectError(f"{where}: a device is a text like cuda:1, or the number of a GPU")
    if device in ("disk", "meta"):
        raise SubjectError(f"{where}: weights that are not in memory cannot be computed with; {MENDS}")
    try:
        found = torch.device("cuda", device) if isinstance(device, int) else torch.device(device)
    except RuntimeError:
        raise SubjectError(f"{where}: there is no such device; use cpu, cuda:0, cuda:1 ... or mps") from None
    there = {"cpu": 1, "cuda": torch.cuda.device_count(), "mps": int(torch.backends.mps.is_available())}.get(
        found.type, 0
    )
    if (found.index or 0) >= there:
        had = ", ".join(f"{there} {kind}" for kind, there in (("cuda", torch.cuda.device_count()),))
        raise SubjectError(f"{where}: there is no such device here ({had})")


def settle(model: nn.Module, stacks: Iterable[nn.ModuleList], device_map: DeviceMap) -> None:
    """Bring a model that was loaded over several devices into the form that the module's first lines tell.

    SubjectError where a block lies on several devices, or on none, or the map is about another model.
    """
    from accelerate.hooks import remove_hook_from_submodules

    if not isinstance(device_map, str):
        _check_names(model, device_map)
    remove_hook_from_submodules(model)
    blocks = [block for stack in stacks for block in stack]
    lie = [_device_of(block, f"block {i}") for i, block in enumerate(blocks)]
    home = lie[0]
    inside = {id(t) for block in blocks for t in (*block.parameters(), *block.buffers())}
    for module in model.modules():
        for name, held in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False)):
            if id(held) not in inside:
                _move(module, name, held, home)
    for block, device in zip(blocks, lie, strict=True):
        if device != home:
            carry(block, device)


def _check_names(model: nn.Module, device_map: Mapping[str, Any]) -> None:
    known = {name for name, _ in (*model.named_modules(), *model.named_parameters(remove_duplicate=False))}
    if other := [name for name in device_map if name not in known]:
        has = ", ".join(name for name, _ in model.named_children())
        raise SubjectError(f"device map: the model has no {other[0]!r}; it has {has}, and what is in them")
    for name, _ in model.named_parameters():
        if not any(not key or name == key or name.startswith(f"{key}.") for key in device_map):
            raise SubjectError(f"device map: it gives no device to {name}; name that, or a module that holds it")


def carry(block: nn.Module, device: torch.device) -> None:
    """Have what a block is given carried to a device, and what it answers back to where that came from."""
    from accelerate.hooks import AlignDevicesHook, add_hook_to_module

    add_hook_to_module(block, AlignDevicesHook(device, io_same_device=True, place_submodules=True))


def _device_of(block: nn.Module, name: str) -> torch.device:
    devices = {t.device for t in (*block.parameters(), *block.buffers())}
    if torch.device("meta") in devices:
        raise SubjectError(f"device map: {name} has weights that no device holds: it does not fit; {MENDS}")
    if len(devices) != 1:
        raise SubjectError(
            f"device map: {name} lies on {', '.join(sorted(map(str, devices)))}: a block has one device; {MENDS}"
        )
    return devices.pop()


def _move(module: nn.Module, name: str, held: torch.Tensor, home: torch.device) -> None:
    if held.device.type == "meta":
        raise SubjectError(
            f"device map: {name} of {type(module).__name__} is held by no device: it does not fit; {MENDS}"
        )
    held.data = held.data.to(home)
