"""Lets a GPU calculate a model whose weights stay in the CPU's memory or in a file: one layer at a time is on it.

A decoder layer, or a large module outside of the layers, takes its weights and inputs to the device when it is called
and gives its outputs back, so that everybody around it sees a model on the CPU. What the device needs is the largest
layer and its activations.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.paged_weights import read_as_one

if TYPE_CHECKING:
    import torch
    from torch import nn

CPU = "cpu"


def check_device(name: str) -> None:
    """Raise InputError when this machine and this torch have no such device."""
    import torch

    if name == CPU:
        return
    there = _accelerators()
    try:
        device = torch.device(name)
        known = device.type in there and (device.index or 0) < there[device.type]
    except RuntimeError:
        known = False
    if not known:
        raise InputError(
            "There is no such device to calculate on",
            received=f"--device {name}",
            allowed=", ".join([CPU, *there]) + ("" if there else f"; torch {torch.__version__} sees no GPU"),
            fix="Leave it out, or install a torch for your GPU: https://pytorch.org/get-started/locally.",
        )


def _accelerators() -> dict[str, int]:
    """Types of the devices that torch sees beside the CPU, and how many there are of each."""
    import torch

    if not torch.accelerator.is_available():
        return {}
    current = torch.accelerator.current_accelerator()
    return {} if current is None else {current.type: torch.accelerator.device_count()}


@contextmanager
def computing_on(name: str, module: nn.Module) -> Iterator[None]:
    """Let the layers of a module be calculated on a device while the block runs; the CPU changes nothing.

    Hooks that are registered before the block see tensors of the CPU, those registered in it tensors of the device.
    """
    if name == CPU:
        yield
        return
    import torch

    device = torch.device(name)
    with ExitStack() as stack:
        if device.type == "cuda":
            stack.enter_context(torch.backends.cudnn.flags(allow_tf32=False))  # which has 10 bits of float32's 23
        for part in read_as_one(module):
            if not isinstance(part, torch.nn.Embedding):  # of whose rows a few are read
                visit = _Visit(part, device)
                # Around what widens weights in a call, which then does so on the device.
                stack.callback(part.register_forward_pre_hook(visit.begin, prepend=True, with_kwargs=True).remove)
                stack.callback(part.register_forward_hook(visit.end, always_call=True).remove)
        yield


def visits_device(part: nn.Module) -> bool:
    """Whether a part is calculated on a device while `computing_on` lasts."""
    return any(isinstance(getattr(hook, "__self__", None), _Visit) for hook in part._forward_pre_hooks.values())


class _Visit:
    """A part's calls: its weights are on the device from the beginning of one to its end, whatever ends it."""

    def __init__(self, part: nn.Module, device: torch.device) -> None:
        self._part, self._device = part, device
        self._home: list[tuple[Any, torch.Tensor]] = []

    def begin(self, _: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[Any, Any] | None:
        if "forward" in vars(self._part):  # something stands in for it that reads no weight
            return None
        for tensor in (*self._part.parameters(), *self._part.buffers()):
            self._home.append((tensor, tensor.data))
            tensor.data = _moved(tensor.data, self._device)
        return _moved(args, self._device), _moved(kwargs, self._device)

    def end(self, _: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        import torch

        if not self._home:
            return None
        for tensor, data in self._home:
            tensor.data = data
        self._home.clear()
        return _moved(output, torch.device(CPU))


def _moved(value: Any, device: torch.device) -> Any:
    """A value with all its tensors on a device."""
    import torch

    if isinstance(value, torch.Tensor):
        return value.to(device)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*(_moved(one, device) for one in value))
    if isinstance(value, (tuple, list)):
        return type(value)(_moved(one, device) for one in value)
    if isinstance(value, dict):
        return {key: _moved(one, device) for key, one in value.items()}
    return value
