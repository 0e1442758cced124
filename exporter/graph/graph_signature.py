"""Reads the signature off a graph's inputs and outputs, so that the manifest says what the file holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.contract.signature import STATE_PREFIXES, Signature, StateSpec, TensorSpec

if TYPE_CHECKING:
    import onnx_ir as ir

_PASTS = tuple(past for past, _ in STATE_PREFIXES.values())
_PRESENTS = tuple(present for _, present in STATE_PREFIXES.values())


def signature_of(graph: ir.Graph) -> Signature:
    """Split the graph's inputs and outputs into state and the rest; states pair up by name."""
    inputs = [_tensor(value) for value in graph.inputs]
    outputs = [_tensor(value) for value in graph.outputs]
    return Signature(
        inputs=tuple(spec for spec in inputs if not spec.name.startswith(_PASTS)),
        outputs=tuple(spec for spec in outputs if not spec.name.startswith(_PRESENTS)),
        state=tuple(_state(spec) for spec in inputs if spec.name.startswith(_PASTS)),
    )


def _state(spec: TensorSpec) -> StateSpec:
    kind, (past, present) = next(item for item in STATE_PREFIXES.items() if spec.name.startswith(item[1][0]))
    name = present + spec.name.removeprefix(past)
    return StateSpec(past=spec.name, present=name, kind=kind, dtype=spec.dtype, dims=spec.dims)


def _tensor(value: ir.Value) -> TensorSpec:
    assert value.name is not None and value.dtype is not None and value.shape is not None
    dims = tuple(dim if isinstance(dim, int) else str(dim.value) for dim in value.shape)
    return TensorSpec(name=value.name, dtype=str(value.dtype.numpy()), dims=dims)
