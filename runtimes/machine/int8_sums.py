"""Whether int8 matmuls are exact on this CPU, asked of the kernels that would run.

x86 CPUs without VNNI add the products of two uint8 inputs and int8 weights in 16 bits, which saturate (ONNX Runtime
1.32); weights that no two products of which reach that far are exact everywhere.
"""

from __future__ import annotations

from functools import cache

# `MatMulInteger` of uint8 [1, 2] and int8 [2, 1] as an ONNX file: opset 10, no weights.
GRAPH = (
    b'\x08\x05:\\\n\x18\n\x01x\n\x01w\x12\x01y"\rMatMulInteger\x12\x01gZ\x13\n\x01x\x12\x0e\n\x0c\x08\x02\x12\x08'
    b"\n\x02\x08\x01\n\x02\x08\x02Z\x13\n\x01w\x12\x0e\n\x0c\x08\x03\x12\x08\n\x02\x08\x02\n\x02\x08\x01b\x13\n\x01y"
    b"\x12\x0e\n\x0c\x08\x06\x12\x08\n\x02\x08\x01\n\x02\x08\x01B\x04\n\x00\x10\n"
)
INPUT, WEIGHT = 255, 127


@cache
def int8_sums_overflow() -> bool:
    """Whether 2 * 255 * 127 is anything else here; raises ImportError where onnxruntime is not installed."""
    import numpy as np

    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(GRAPH, options, providers=["CPUExecutionProvider"])
    feeds = {"x": np.full((1, 2), INPUT, np.uint8), "w": np.full((2, 1), WEIGHT, np.int8)}
    return bool(session.run(None, feeds)[0].item() != 2 * INPUT * WEIGHT)
