"""Weights of recurrent layers: how torch names them, and the form in which ONNX's operators hold them.

torch has one matrix [G*H, K] for each depth and direction, G gates of H rows each. ONNX has one tensor [D, G*H, K] for
a depth, all directions stacked, with the gates in another order.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

# operator -> for each gate in ONNX's order, its number in torch's
GATE_ORDERS = {
    "LSTM": (0, 3, 1, 2),  # i, o, f, c of torch's i, f, g, o
    "GRU": (1, 0, 2),  # z, r, h of torch's r, z, n
    "RNN": (0,),
}
_REVERSE = "_reverse"
_NAME = re.compile(r"(?:.*\.)?weight_(?:ih|hh)_l\d+(?:_reverse)?")


def is_recurrent(parameter: str) -> bool:
    """Whether torch gives this name to the matrix of a recurrent layer."""
    return _NAME.fullmatch(parameter) is not None


def directions_of(parameter: str, count: int) -> tuple[str, ...]:
    """The names of one depth's matrices: forward alone, or forward and backward."""
    return (parameter, f"{parameter}{_REVERSE}")[:count]


def in_onnx_form(operator: str, matrices: Sequence[npt.NDArray[np.generic]]) -> npt.NDArray[np.generic]:
    """Stack the matrices of all directions, [G*H, ...] each, with their gates in ONNX's order -> [D, G*H, ...]."""
    order = GATE_ORDERS[operator]
    stacked = []
    for matrix in matrices:
        gates = np.split(matrix, len(order))
        stacked.append(np.concatenate([gates[number] for number in order]))
    return np.stack(stacked)
