"""A checkpoint's stored tensors by name, from whichever kind of file: shape, dtype, and a way to read them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

    from jisu.exporter.sources.stored_weights import LazyWeight, StoredWeights

# The spelling of safetensors -> that of torch, which is used here.
_DTYPES = {
    "F64": "float64",
    "F32": "float32",
    "F16": "float16",
    "BF16": "bfloat16",
    "F8_E4M3": "float8_e4m3fn",
    "F8_E5M2": "float8_e5m2",
    "F8_E8M0": "float8_e8m0fnu",
    "I64": "int64",
    "U64": "uint64",
    "I32": "int32",
    "U32": "uint32",
    "I16": "int16",
    "U16": "uint16",
    "I8": "int8",
    "U8": "uint8",
    "BOOL": "bool",
}
FLOATS = ("float64", "float32", "float16", "bfloat16")


@dataclass(frozen=True, kw_only=True)
class Stored:
    """One tensor of a file; ``dtype`` as torch spells it."""

    name: str
    shape: tuple[int, ...]
    dtype: str
    weight: LazyWeight

    def read(self) -> torch.Tensor:
        return self.weight[...]

    def integers(self) -> npt.NDArray[Any]:
        """The values as they are stored, of a tensor of integers.

        Raises:
            InputError: it holds something else, or nothing.
        """
        if not self.dtype.startswith(("int", "uint")) or 0 in self.shape:
            raise unusable(self.name, f"{list(self.shape)} of {self.dtype}", "integers")
        array: npt.NDArray[Any] = self.read().contiguous().numpy()
        return array

    def floats(self) -> npt.NDArray[np.float32]:
        """The values in float32; exponents of powers of two, which some scales are stored as, are raised.

        Raises:
            InputError: a value is NaN or infinite.
        """
        import numpy as np
        import torch

        tensor = self.read()
        if self.dtype == "uint8":
            values = np.exp2(tensor.numpy().astype(np.float32) - np.float32(127))
        else:
            values = tensor.to(torch.float32).numpy()
        if not np.isfinite(values).all():
            raise unusable(self.name, "values that are NaN or infinite", "finite values")
        return np.asarray(values, np.float32)


Table = Mapping[str, Stored]


def stored_table(stored: StoredWeights) -> Table:
    """The tensors of some files, their dtypes in one spelling."""
    return {
        name: Stored(
            name=name,
            shape=shape,
            dtype=_DTYPES.get(stored.dtypes[name], stored.dtypes[name]),
            weight=stored.weights[name],
        )
        for name, shape in stored.shapes.items()
    }


# What is left to do where no reader knows a format, or a variant of one.
WAY_OUT = (
    "Load it with the library that wrote it, on a machine where that runs, dequantize its weights to bfloat16, save "
    "those and export them; or export the model that it was quantized from, where there is one."
)


def unread(name: str, received: object, allowed: str) -> InputError:
    """The error for a quantized tensor in a variant of its format that no reader knows."""
    return InputError(
        f"The quantized weight {name} is stored in a way that is not read here",
        received=received,
        allowed=allowed,
        fix=WAY_OUT,
    )


def unusable(name: str, received: object, allowed: str) -> InputError:
    """The error for a quantized tensor that is not what its format says."""
    return InputError(
        f"The quantized weight {name} cannot be read",
        received=received,
        allowed=allowed,
        fix="Download the checkpoint again, or quantize it again with the tool that wrote it.",
    )
