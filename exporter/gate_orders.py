"""The order of gates in the weights of recurrent operators: which of torch's gates each of ONNX's is."""

from __future__ import annotations

# operator -> for each gate in ONNX's order, its number in torch's
GATE_ORDERS = {
    "LSTM": (0, 3, 1, 2),  # i, o, f, c of torch's i, f, g, o
    "GRU": (1, 0, 2),  # z, r, h of torch's r, z, n
    "RNN": (0,),
}
