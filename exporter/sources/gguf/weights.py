"""Dequantizes GGUF tensors one at a time into the layout that transformers' modules have.

Names and layout changes (the query/key permutation of Llama, norm offsets of Gemma, ...) are transformers' own tables;
only the order of work is ours: a tensor is read, dequantized and rearranged when the model asks for it, in pieces that
stay in the processor's cache, so that the model is the only copy of the weights.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from jisu.exporter.sources.gguf.header import GgufHeader, GgufTensor
from jisu.exporter.sources.gguf.layouts import processor_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    import torch

_PIECE = 1 << 17  # elements dequantized at once: half a megabyte of float32


class GgufWeight:
    """A weight of the model, made of one or more GGUF tensors; indexing it reads and dequantizes them."""

    def __init__(self, header: GgufHeader, target: str, processor: Any, mapping: dict[str, str]) -> None:
        self.header = header
        self.target = target
        self.processor = processor
        self.mapping = mapping
        self.tensors: list[GgufTensor] = []

    def __getitem__(self, index: Any) -> torch.Tensor:
        import numpy as np
        import torch

        collected: dict[str, torch.Tensor] = {}
        for tensor in self.tensors:
            result = self.processor.process(
                weights=read_tensor(tensor),
                name=tensor.name,
                tensor_key_mapping=self.mapping,
                parsed_parameters={"tensors": collected},
            )
            # A processor that merges several tensors into one puts the result into parsed_parameters and names none.
            if result.name is not None:
                collected[self.target] = torch.from_numpy(np.ascontiguousarray(result.weights))
        return collected[self.target][index]


def lazy_weights(header: GgufHeader, empty: Any) -> tuple[dict[str, GgufWeight], list[str]]:
    """The model's weights by name, none of them read yet, and the GGUF tensors that belong to none.

    Args:
        header: of the file.
        empty: the model on the meta device.
    """
    from transformers.modeling_gguf_pytorch_utils import get_gguf_hf_weights_map

    processor = processor_of(header.architecture, empty.config)
    mapping: dict[str, str] = get_gguf_hf_weights_map(_NamedModules(empty), processor, model_type=header.architecture)
    weights: dict[str, GgufWeight] = {}
    unused = []
    for tensor in header.tensors:
        # Merged experts are parameters of their own, not the weight of a module, and are listed without the suffix.
        target = mapping.get(tensor.name) or mapping.get(tensor.name.removesuffix(".weight"))
        if target is None:
            unused.append(tensor.name)
        else:
            weight = weights.setdefault(target, GgufWeight(header, target, processor, mapping))
            weight.tensors.append(tensor)
    return weights, unused


def read_tensor(tensor: GgufTensor) -> npt.NDArray[np.float32]:
    """One tensor, dequantized: float32 in the tensor's shape.

    Read through a file handle instead of a mapping: the pages of a mapping would count as ours until the end.
    """
    import gguf
    import numpy as np

    kind = gguf.GGMLQuantizationType(tensor.type_id)
    block, size = gguf.GGML_QUANT_SIZES[kind]
    with tensor.path.open("rb") as stream:
        stream.seek(tensor.offset)
        if kind == gguf.GGMLQuantizationType.F32:
            return np.fromfile(stream, "<f4", tensor.size // 4).reshape(tensor.shape)
        values = np.empty(tensor.size // size * block, np.float32)
        step = _PIECE // block
        for first in range(0, tensor.size // size, step):
            blocks = min(step, tensor.size // size - first)
            raw = np.fromfile(stream, np.uint8, blocks * size)
            # As one row: gguf works through groups of rows in a Python loop.
            values[first * block : (first + blocks) * block] = gguf.dequantize(raw.reshape(1, -1), kind).reshape(-1)
    return values.reshape(tensor.shape)


def read_blocks(tensor: GgufTensor) -> tuple[npt.NDArray[np.uint8], npt.NDArray[np.float32]]:
    """One tensor's bytes as they are stored, and its values in its shape."""
    import numpy as np

    with tensor.path.open("rb") as stream:
        stream.seek(tensor.offset)
        raw = np.fromfile(stream, np.uint8, tensor.size)
    return raw, read_tensor(tensor)


class _NamedModules:
    """As much of a model as transformers' name mapping looks at.

    That mapping starts over for every submodule and rebuilds its tables each time, 4.5 s for 30 layers (transformers
    5.23). Names within a layer are complete from the top, so the lists of layers are left out here.
    """

    def __init__(self, module: Any, config: Any = None) -> None:
        self.module = module
        self.config = module.config if config is None else config

    def state_dict(self) -> list[str]:
        return list(self.module.state_dict())

    def named_children(self) -> Iterator[tuple[str, _NamedModules]]:
        import torch

        for name, child in self.module.named_children():
            if not isinstance(child, torch.nn.ModuleList) and next(child.children(), None) is not None:
                yield name, _NamedModules(child, self.config)
