"""How a signature's element types lie in numpy arrays, which have no bfloat16: its bits are kept as unsigned integers.

Enough for memory that is allocated, moved and handed over, and never computed with.
"""

from __future__ import annotations

from typing import Any

import numpy as np

BFLOAT16 = "bfloat16"
# onnx.TensorProto.BFLOAT16; ONNX Runtime takes a number where numpy has no type of that name.
_ONNX_BFLOAT16 = 16


def storage_dtype(name: str) -> np.dtype[Any]:
    """The numpy type of the same size that holds elements of a signature's type; all bits zero are the number 0."""
    return np.dtype(np.uint16 if name == BFLOAT16 else name)


def element_type(name: str) -> Any:
    """What ONNX Runtime's bindings take for a signature's type."""
    return _ONNX_BFLOAT16 if name == BFLOAT16 else np.dtype(name)
