"""Parameters of a traced module, and what stands for them in a graph: views of their memory, not copies."""

from __future__ import annotations

import onnx_ir as ir
from torch import Tensor, nn

from jisu.exporter.sources.half_width import is_half


def parameter_of(root: nn.Module, name: str) -> Tensor:
    """The parameter, or its like, of a name."""
    path, _, last = name.rpartition(".")
    tensor: Tensor = getattr(root.get_submodule(path), last)
    return tensor.detach()


def float32_tensor(tensor: Tensor, name: str) -> ir.TensorProtocol:
    """A weight of a graph: the tensor itself, or, where it has two bytes a number, what is read of it in float32."""
    if not is_half(tensor):
        return ir.tensor(tensor, name=name)
    shape = ir.Shape(list(tensor.shape))
    return ir.LazyTensor(lambda: ir.tensor(tensor.float()), dtype=ir.DataType.FLOAT, shape=shape, name=name)
