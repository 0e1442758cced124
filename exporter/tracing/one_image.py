"""How a model reads one image or recording at a time, for a trace: without loops over these and over windows.

No graph holds such loops. Models take the images of several prompts at once, find out how many each has, leave padding
out, and cut what they computed into one piece an image. A runtime gives a graph one image in each call, so that nothing
has to be left out or cut. Where a model cuts its tokens into windows and attends in each of them, the cuts become a
mask.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor
from torch.overrides import TorchFunctionMode
from transformers import AttentionInterface

from jisu.exporter.tracing.routing import ATTENTION, attend

_OF_TILES = 5  # dims of what holds them


class OneImage(TorchFunctionMode):
    """While entered: numbers of pieces stay unread, cutting by them gives one piece, and all images are real."""

    def __init__(self) -> None:
        super().__init__()
        self._lengths: Tensor | None = None

    def __enter__(self) -> OneImage:
        # Tensors of a trace list their numbers one by one (torch 2.13), which are known only when the graph runs.
        self._own = [(kind, kind.tolist) for kind in (FakeTensor, FunctionalTensor)]
        for kind, _ in self._own:
            kind.tolist = _pieces  # type: ignore[assignment, method-assign]
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    def __exit__(self, *arguments: Any) -> None:
        super().__exit__(*arguments)  # type: ignore[no-untyped-call]
        for kind, tolist in self._own:
            kind.tolist = tolist  # type: ignore[method-assign]

    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        kwargs = kwargs or {}
        if func in (torch.split, Tensor.split):
            sizes = args[1] if len(args) > 1 else next(iter(kwargs.values()))
            if isinstance(sizes, list) and any(isinstance(size, (Pieces, torch.SymInt)) for size in sizes):
                return (args[0],)
            if isinstance(sizes, Pieces):
                if args[0].dim() == 4:  # [1, H, tokens, D], in an attention
                    self._lengths = sizes.lengths
                return (args[0],)
        if func is Tensor.__getitem__ and _chooses_images(args[0], args[1]):
            return args[0] if args[1].dim() == 1 else args[0].flatten(0, 1)
        if func is Tensor.__len__ and isinstance(args[0].shape[0], torch.SymInt):
            return 1  # of the one piece that `unbind` gives
        if func is Tensor.unbind and isinstance(args[0].shape[0], torch.SymInt):
            return (args[0],)
        if func in (torch.squeeze, Tensor.squeeze) and _is_dynamic(args[0], *args[1:], **kwargs):
            return args[0]  # rows of features are no axis to be left out, however many there are
        if func is torch.as_tensor and _holds_sizes(args[0]):
            return Pieces(None)
        return func(*args, **kwargs)

    def window_mask(self, tokens: int) -> Tensor | None:
        """Which tokens see each other, bool [1, 1, tokens, tokens], since the last cut; None for all of them."""
        lengths = self._lengths
        if lengths is None or (not isinstance(lengths.shape[0], torch.SymInt) and lengths.shape[0] == 1):
            return None
        ends = lengths.cumsum(0)
        window = (torch.arange(tokens)[:, None] >= ends[None, :]).sum(1)
        return (window[:, None] == window[None, :])[None, None]


@contextlib.contextmanager
def one_at_a_time() -> Iterator[None]:
    """While entered: a model reads one image or recording, and the windows that it attends in are a mask."""
    one = OneImage()

    def attend_in_windows(
        module: nn.Module, query: Tensor, key: Tensor, value: Tensor, attention_mask: Tensor | None, **options: Any
    ) -> tuple[Tensor, None]:
        windows = one.window_mask(query.shape[2])
        return attend(module, query, key, value, attention_mask if windows is None else windows, **options)

    with one:
        AttentionInterface.register(ATTENTION, attend_in_windows)
        try:
            yield
        finally:
            AttentionInterface.register(ATTENTION, attend)


class Pieces(list[Any]):
    """Sizes of pieces that nobody reads; arithmetic on them gives the same."""

    def __init__(self, lengths: Tensor | None) -> None:
        super().__init__()
        self.lengths = lengths

    def __floordiv__(self, other: Any) -> Pieces:
        return self

    def prod(self, *_: Any, **__: Any) -> Pieces:
        return self

    def tolist(self) -> Pieces:
        return self


def _pieces(lengths: Tensor) -> Pieces:
    return Pieces(lengths)


def _is_dynamic(tensor: Tensor, dim: int | None = None) -> bool:
    return dim is not None and isinstance(tensor.shape[dim], torch.SymInt)


def _chooses_images(tensor: Tensor, index: Any) -> bool:
    """Of the images of all prompts, or of the tiles of each, [1, tiles, 3, H, W]."""
    if not isinstance(index, Tensor) or index.dtype != torch.bool:
        return False
    return index.dim() == 1 < tensor.dim() or (index.dim(), tensor.dim()) == (2, _OF_TILES)


def _holds_sizes(value: Any) -> bool:
    rows = value if isinstance(value, (list, tuple)) else []
    return any(isinstance(size, torch.SymInt) for row in rows if isinstance(row, (list, tuple)) for size in row)
