"""The artifact's graph with its cache of one fixed length, as TensorRT reads it.

Nothing but the letter ``capacity`` is replaced by a number: TensorRT updates no cache of a length that varies. What was
verified on the CPU is the same graph with the letter.
"""

from __future__ import annotations

from pathlib import Path

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import CAPACITY


def frozen_graph(graph: Path, *, capacity: int) -> bytes:
    """One of an artifact's graphs as a serialized ONNX model; its weights stay in the artifact's files.

    Raises:
        InputError: the file is damaged, or keeps weights outside the artifact.
    """
    import onnx_ir as ir

    from jisu.runtimes.backends.external_data import check_external_data

    check_external_data(graph)
    try:
        model = ir.load(graph)
    except Exception as error:  # protobuf's errors share no class of their own
        raise InputError(
            f"{graph} cannot be read",
            received=str(error).splitlines()[0] if str(error) else type(error).__name__,
            allowed="a graph as the export wrote it",
            fix="Export the model again.",
        ) from error
    values = [*model.graph.inputs, *model.graph.outputs, *(output for node in model.graph for output in node.outputs)]
    for value in values:
        if value.shape is not None and any(str(dim) == CAPACITY for dim in value.shape):
            value.shape = ir.Shape([capacity if str(dim) == CAPACITY else dim for dim in value.shape])
    data: bytes = ir.serde.serialize_model(model).SerializeToString()
    return data
