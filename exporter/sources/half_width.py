"""Weights that stay in the checkpoint's two bytes a number, and are float32 where they are computed with.

A decoder layer and an output projection have float32 weights from the beginning of a call to its end; the rows of an
embedding become float32 as they are read. Every bfloat16 and every float16 is a float32, so nothing is rounded. Whoever
reads a weight outside of a call takes `float32_array`.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from functools import partial
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch
    from torch import nn

# Spellings of safetensors files, and torch's names.
_STORED = {"BF16": "bfloat16", "F16": "float16"}
# Of the weights, those that have to be read where they may be widened; the others are float32.
_SHARE = 0.9
_TOKENS = 5
_ROWS = 64  # of tables that so many tokens, and their positions, are in


def is_half(tensor: torch.Tensor) -> bool:
    """Whether a weight has two bytes a number."""
    return str(tensor.dtype).removeprefix("torch.") in _STORED.values()


def float32_array(weight: torch.Tensor) -> npt.NDArray[np.float32]:
    """A weight as it is computed with; the memory of one that is float32 already."""
    array: npt.NDArray[np.float32] = weight.detach().float().numpy()
    return array


def float32_bytes(parameters: Iterable[torch.Tensor]) -> int:
    """Bytes of weights as they are computed with."""
    return sum(4 * one.numel() if is_half(one) else one.nbytes for one in parameters)


def common_half(dtypes: Mapping[str, str], shapes: Mapping[str, tuple[int, ...]]) -> torch.dtype | None:
    """The dtype of all matrices of a safetensors checkpoint where each number has two bytes; None otherwise."""
    matrices = {dtype for name, dtype in dtypes.items() if len(shapes[name]) > 1}
    return half_of(matrices.pop()) if len(matrices) == 1 else None


def half_of(dtype: str) -> torch.dtype | None:
    """Torch's dtype of two bytes that a safetensors file spells so; None for any other."""
    import torch

    return getattr(torch, _STORED[dtype]) if dtype in _STORED else None


def widens_in_calls(module: Any) -> bool:
    """Whether the weights of a language model are nearly all read within layers, a plain embedding or projection."""
    places = [part for part in _places(module) if not _is_table(part)]
    read = {id(weight): weight.numel() for part in _places(module) for weight in part.parameters()}
    share = sum(read.values()) / max(1, sum(weight.numel() for weight in module.parameters()))
    return bool(places) and share >= _SHARE


def largest_call(module: Any, *, projection: bool) -> int:
    """Bytes of float32 weights that one call of a layer needs, or of the output projection where it is called whole."""
    head = module.get_output_embeddings()
    parts = [part for part in _places(module) if not _is_table(part) and (projection or part is not head)]
    return max((sum(4 * weight.numel() for weight in part.parameters()) for part in parts), default=0)


def widen_in_calls(module: Any, check: Callable[[], None]) -> Float32Copies:
    """Let a model whose weights have two bytes compute in float32; returns what it keeps of the last part called.

    Those that are not read where `widens_in_calls` looks, and all of them where a few tokens through the first layers
    give other numbers than with float32 weights, become float32 for good.

    Args:
        check: called before the weights of a part are read; raises where they are no longer what they were.
    """
    copies, places = Float32Copies(check), list(_places(module))
    for part in places:
        if _is_table(part):
            part.register_forward_hook(_float32_rows)
        else:
            widened = _Widened(copies)
            part.register_forward_pre_hook(widened.begin)
            part.register_forward_hook(widened.end, always_call=True)
    inside = {id(weight) for part in places for weight in part.parameters()}
    _make_float32(weight for weight in module.parameters() if id(weight) not in inside)
    if not _computes_in_float32(module):
        _make_float32(module.parameters())
    copies.forget()
    return copies


@contextlib.contextmanager
def float32_shapes(module: nn.Module) -> Iterator[dict[str, torch.Tensor]]:
    """Let weights of two bytes be float32 without content while the block looks at their shapes.

    Yields:
        Their names, and what they hold.
    """
    import torch

    home: dict[int, tuple[Any, torch.Tensor]] = {}
    named = {}
    try:
        for name, weight in module.named_parameters(remove_duplicate=False):
            if id(weight) in home:
                named[name] = home[id(weight)][1]
            elif is_half(weight):
                named[name] = weight.data
                home[id(weight)] = weight, weight.data
                weight.data = torch.empty(weight.shape)  # takes no memory until somebody writes there
        yield named
    finally:
        for weight, data in home.values():
            weight.data = data


class Float32Copies:
    """The float32 weights of the part that was called last, for when it is called again."""

    def __init__(self, check: Callable[[], None]) -> None:
        self._check = check
        self._part: nn.Module | None = None
        # By address; what was copied is held as well, so that nothing else comes to lie there.
        self._copies: dict[int, tuple[torch.Tensor, torch.Tensor]] = {}

    def of(self, part: nn.Module, weight: torch.Tensor) -> torch.Tensor:
        """A weight of a part in float32; nobody changes it where it lies in two bytes, or writes into the copy."""
        if part is not self._part:
            self.forget()
            self._check()
            self._part = part
        copies = self._copies
        if weight.data_ptr() not in copies:
            copies[weight.data_ptr()] = weight.data, weight.data.float()
        return copies[weight.data_ptr()][1]

    def forget(self) -> None:
        """Give their memory back; also from another thread."""
        self._part, self._copies = None, {}


class _Widened:
    """A part's calls: its weights are float32 from the beginning of one to its end, whatever ends it.

    What a call saves for its gradients of these weights has two bytes a number, too, and is widened again when the
    gradients are calculated.
    """

    def __init__(self, copies: Float32Copies) -> None:
        self._copies = copies
        self._home: list[tuple[Any, torch.Tensor]] = []
        self._saving: contextlib.AbstractContextManager[None] | None = None

    def begin(self, part: nn.Module, _: tuple[Any, ...]) -> None:
        import torch

        if "forward" in vars(part):  # something stands in for it that reads no weight
            return
        for weight in part.parameters():
            if is_half(weight):
                self._home.append((weight, weight.data))
                weight.data = self._copies.of(part, weight)
        if self._home and torch.is_grad_enabled():
            own = {weight.untyped_storage().data_ptr(): data for weight, data in self._home}
            self._saving = torch.autograd.graph.saved_tensors_hooks(partial(_saved, own), _read_saved)
            self._saving.__enter__()

    def end(self, *_: Any) -> None:
        if self._saving is not None:
            self._saving.__exit__(None, None, None)
            self._saving = None
        for weight, data in self._home:
            weight.data = data
        self._home.clear()

    def __deepcopy__(self, memo: dict[int, Any]) -> _Widened:
        return _Widened(self._copies)


def _saved(own: Mapping[int, torch.Tensor], tensor: torch.Tensor) -> torch.Tensor | tuple[torch.Tensor]:
    """What is kept of a tensor: of a widened weight, or a view of one, that of two bytes, in a tuple."""
    home = own.get(tensor.untyped_storage().data_ptr())
    if home is None:
        return tensor
    offset = home.storage_offset() + tensor.storage_offset()
    return (home.as_strided(tensor.size(), tensor.stride(), offset),)


def _read_saved(kept: torch.Tensor | tuple[torch.Tensor]) -> torch.Tensor:
    return kept[0].float() if isinstance(kept, tuple) else kept


def _float32_rows(part: nn.Module, args: tuple[Any, ...], output: torch.Tensor) -> torch.Tensor | None:
    return output.float() if is_half(output) else None


def _places(module: Any) -> Iterator[nn.Module]:
    """Where weights may be widened: decoder layers, plain embeddings, and the output projection."""
    from torch import nn

    from jisu.exporter.sources.layers import find_layers

    stack = find_layers(module)
    if stack is None:
        return
    layers: Any = module.get_submodule(stack.path)
    yield from layers
    inside = {id(part) for layer in layers for part in layer.modules()}
    head = module.get_output_embeddings()
    for part in module.modules():
        if id(part) not in inside and (_is_table(part) or (part is head and type(part) is nn.Linear)):
            yield part


def _is_table(part: nn.Module) -> bool:
    from torch import nn

    return type(part) is nn.Embedding


def _make_float32(weights: Iterable[Any]) -> None:
    for weight in weights:
        if is_half(weight):
            weight.data = weight.data.float()


def _computes_in_float32(module: Any) -> bool:
    """Whether the first layers give the numbers that they give with float32 weights."""
    import torch

    from jisu.exporter.sources.layers import find_layers, only_first_layers

    head = module.get_output_embeddings()
    if head is None or "forward" in vars(head):
        return False
    stack = find_layers(module)
    ids = torch.arange(_TOKENS)[None] % module.get_input_embeddings().weight.shape[0]
    head.forward = lambda hidden: hidden
    try:
        with only_first_layers(module, stack), torch.inference_mode():
            actual = module(input_ids=ids, use_cache=False).logits
            with _float32(module, ends=[head, *filter(_is_table, module.modules())]):
                expected = module(input_ids=ids, use_cache=False).logits
        return bool(actual.dtype == torch.float32 and torch.equal(actual, expected))
    except Exception:  # noqa: BLE001 - a model that reads a weight elsewhere fails in its own way
        return False
    finally:
        del head.forward


@contextlib.contextmanager
def _float32(module: nn.Module, ends: Iterable[nn.Module]) -> Iterator[None]:
    """Let weights be float32, in memory, while the block runs; ``ends`` have their first rows alone, which are read."""
    import torch

    tables = {id(weight) for part in ends for weight in part.parameters()}
    home: list[tuple[Any, torch.Tensor]] = []
    try:
        for weight in filter(is_half, module.parameters()):
            home.append((weight, weight.data))
            if id(weight) in tables:
                weight.data = torch.empty(weight.shape)  # takes no memory but for what is written
                weight.data[:_ROWS] = home[-1][1][:_ROWS]
            else:
                weight.data = weight.data.float()
        yield
    finally:
        for weight, data in home:
            weight.data = data
