"""Complex numbers as pairs of real tensors while a module is traced: ONNX has none.

Rotary positions are often written as products of complex numbers. `torch.polar` and `torch.view_as_complex` give a
`ComplexPair` instead, which knows sums, products and changes of shape; `torch.view_as_real` ends it. Anything else
that a model does with one is refused by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from exporter.errors import InputError

# Methods that do the same to both parts.
_ALIKE = (
    "unsqueeze",
    "squeeze",
    "transpose",
    "permute",
    "flatten",
    "expand",
    "contiguous",
    "detach",
    "clone",
    "repeat",
)


class ComplexPair:
    """``real + i imaginary``, two tensors of one shape."""

    def __init__(self, real: Tensor, imaginary: Tensor) -> None:
        self.real = real
        self.imag = imaginary

    @classmethod
    def __torch_function__(cls, func: Callable[..., Any], types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.view_as_real:
            return torch.stack((args[0].real, args[0].imag), dim=-1)
        if func in _PRODUCTS:
            return _product(args[0], args[1])
        raise InputError(
            "A model does something with complex numbers that has no form in a graph",
            received=getattr(func, "__name__", func),
            allowed="products, sums and changes of shape between torch.view_as_complex and torch.view_as_real",
            fix="Write it with real numbers.",
        )

    @property
    def shape(self) -> torch.Size:
        return self.real.shape

    @property
    def device(self) -> torch.device:
        return self.real.device

    @property
    def ndim(self) -> int:
        return self.real.ndim

    def dim(self) -> int:
        return self.real.dim()

    def __mul__(self, other: Any) -> ComplexPair:
        return _product(self, other)

    __rmul__ = __mul__

    def __add__(self, other: ComplexPair) -> ComplexPair:
        return ComplexPair(self.real + other.real, self.imag + other.imag)

    def __sub__(self, other: ComplexPair) -> ComplexPair:
        return ComplexPair(self.real - other.real, self.imag - other.imag)

    def __getitem__(self, index: Any) -> ComplexPair:
        return ComplexPair(self.real[index], self.imag[index])

    def conj(self) -> ComplexPair:
        return ComplexPair(self.real, -self.imag)

    def view(self, *shape: Any) -> ComplexPair:
        return ComplexPair(self.real.reshape(*shape), self.imag.reshape(*shape))

    reshape = view

    def to(self, *_: Any, **__: Any) -> ComplexPair:
        """A graph has one device, and its pairs the precision that they were made in."""
        return self

    def __getattr__(self, name: str) -> Callable[..., ComplexPair]:
        if name not in _ALIKE:
            raise AttributeError(name)

        def both(*arguments: Any, **options: Any) -> ComplexPair:
            return ComplexPair(*(getattr(part, name)(*arguments, **options) for part in (self.real, self.imag)))

        return both


_PRODUCTS = frozenset({torch.mul, torch.multiply, Tensor.mul, Tensor.__mul__, Tensor.__rmul__})


def _product(one: Any, other: Any) -> ComplexPair:
    """(a + ib)(c + id) = (ac - bd) + i(ad + bc)."""
    if not isinstance(one, ComplexPair):
        one, other = other, one
    if not isinstance(other, ComplexPair):
        return ComplexPair(one.real * other, one.imag * other)
    real = one.real * other.real - one.imag * other.imag
    return ComplexPair(real, one.real * other.imag + one.imag * other.real)


class _Pairs(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.polar:
            size, angle = args
            return ComplexPair(size * torch.cos(angle), size * torch.sin(angle))
        if func is torch.view_as_complex:
            return ComplexPair(args[0][..., 0], args[0][..., 1])
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def complex_pairs() -> Iterator[None]:
    """Let complex numbers be pairs of real ones while the block runs."""
    with _Pairs():
        yield
