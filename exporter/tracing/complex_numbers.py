"""Complex numbers as pairs of real tensors while a module is traced: ONNX has none.

Rotary positions are often written as products of complex numbers. `torch.polar`, `torch.complex` and
`torch.view_as_complex` give a `ComplexPair` instead, which knows sums, products and changes of shape, also with a
complex table or number of the model's; `torch.view_as_real` ends it. Anything else that a model does with one is
refused by name.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.overrides import TorchFunctionMode

from jisu.exporter.contract.errors import InputError

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
        raise _refusal(getattr(func, "__name__", func))

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

    def __add__(self, other: Any) -> ComplexPair:
        real, imaginary = _parts(other)
        return ComplexPair(self.real + real, self.imag + imaginary)

    __radd__ = __add__

    def __neg__(self) -> ComplexPair:
        return ComplexPair(-self.real, -self.imag)

    def __sub__(self, other: Any) -> ComplexPair:
        real, imaginary = _parts(other)
        return ComplexPair(self.real - real, self.imag - imaginary)

    def __rsub__(self, other: Any) -> ComplexPair:
        return (-self).__add__(other)

    def __truediv__(self, other: Any) -> ComplexPair:
        if _is_complex(other):
            raise _refusal("a division by a complex number")
        return ComplexPair(self.real / other, self.imag / other)

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
        if name.startswith("_"):  # Python and torch look for what an object may have
            raise AttributeError(name)
        if name not in _ALIKE:
            raise _refusal(name)

        def both(*arguments: Any, **options: Any) -> ComplexPair:
            return ComplexPair(*(getattr(part, name)(*arguments, **options) for part in (self.real, self.imag)))

        return both


_PRODUCTS = frozenset({torch.mul, torch.multiply, Tensor.mul, Tensor.__mul__, Tensor.__rmul__})


def _product(one: Any, other: Any) -> ComplexPair:
    """(a + ib)(c + id) = (ac - bd) + i(ad + bc)."""
    if not isinstance(one, ComplexPair):
        one, other = other, one
    if not _is_complex(other):
        return ComplexPair(one.real * other, one.imag * other)
    real, imaginary = _parts(other)
    return ComplexPair(one.real * real - one.imag * imaginary, one.real * imaginary + one.imag * real)


def _is_complex(value: Any) -> bool:
    return isinstance(value, (ComplexPair, complex)) or (isinstance(value, Tensor) and value.is_complex())


def _parts(value: Any) -> tuple[Any, Any]:
    """Real and imaginary part of a pair, a number, or a tensor of either kind such as a table of a model."""
    if isinstance(value, Tensor) and value.is_complex():
        parts = torch.view_as_real(value)
        return parts[..., 0], parts[..., 1]
    if isinstance(value, (ComplexPair, complex)):
        return value.real, value.imag
    return value, 0.0


def _refusal(received: Any) -> InputError:
    return InputError(
        "The model uses complex numbers in a way that ONNX cannot express",
        received=received,
        allowed="products, sums and changes of shape between torch.view_as_complex and torch.view_as_real",
        fix="Write it with real numbers.",
    )


class _Pairs(TorchFunctionMode):
    def __torch_function__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        if func is torch.polar:
            size, angle = args
            return ComplexPair(size * torch.cos(angle), size * torch.sin(angle))
        if func is torch.complex:
            return ComplexPair(*args)
        if func is torch.view_as_complex:
            return ComplexPair(args[0][..., 0], args[0][..., 1])
        return func(*args, **(kwargs or {}))


@contextlib.contextmanager
def complex_pairs() -> Iterator[None]:
    """Let complex numbers be pairs of real ones while the block runs."""
    with _Pairs():
        yield
