"""A GGUF file's own integers -> the weights of the artifact, without quantizing anything anew.

What is taken over bit for bit is compared with the weights that the source was loaded with. Types that the kernels have
no exact form for get the closest one, and how far it is off is stated.
"""

from __future__ import annotations

from collections.abc import Hashable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.stages import ReportProgress
from jisu.exporter.quantization.calibration_errors import as_input_errors
from jisu.exporter.quantization.keep_experts import ExpertTensors
from jisu.exporter.quantization.kept_types import KeptType
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.quantize_source import QuantizedWeights
from jisu.exporter.sources.experts import expert_weights
from jisu.exporter.sources.half_width import float32_array

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from jisu.calibration.weights.formats import BlockQuantized
    from jisu.exporter.sources.gguf.header import GgufTensor
    from jisu.exporter.sources.gguf.weights import GgufWeight
    from jisu.exporter.sources.source import Source


def keep_quantization(
    source: Source,
    checkpoint: str | Path,
    *,
    whole_bytes: bool = False,
    progress: ReportProgress | None = None,
) -> QuantizedWeights:
    """Take over the quantized tensors of a GGUF file.

    Args:
        source: loaded from the file; compared with what is taken over.
        checkpoint: the file.
        whole_bytes: widen the codes of embeddings to 8 bits, for targets that gather no smaller integers.
        progress: called with the matrices done and their number.

    Raises:
        InputError: not a GGUF file, nothing in it is quantized, a type that has no form, or a matrix that transformers
            stores in another layout than rows and columns of the file.
    """
    import numpy as np

    from jisu.calibration.weights.gguf_blocks import FLOATS, blocks_to_quantized, widen
    from jisu.calibration.weights.half_scales import round_scales
    from jisu.exporter.sources.gguf.parts import read_gguf
    from jisu.exporter.sources.gguf.weights import lazy_weights, read_blocks

    if source.provenance.get("kind") != "gguf":
        raise InputError(
            "Only a GGUF file has a quantization that could be kept",
            received=checkpoint,
            allowed="a .gguf file",
            fix="Leave --keep-quantization out, or choose --precision int8 or int4.",
        )
    header = read_gguf(Path(checkpoint))
    weights, _ = lazy_weights(header, source.module)
    matrices = matrices_of(source.module)
    # Tied names share a weight, and the file has it under one of them.
    by_storage = {
        matrix.storage: weights[f"{matrix.name}.weight"] for matrix in matrices if f"{matrix.name}.weight" in weights
    }
    by_name: dict[str, BlockQuantized] = {}
    done: dict[Hashable, BlockQuantized] = {}
    kinds: dict[str, KeptType] = {}
    experts = ExpertTensors(weights)
    own_experts = expert_weights(source.module)
    for index, matrix in enumerate(matrices):
        if progress is not None:
            progress(index + 1, len(matrices))
        name = f"{matrix.name}.weight"
        if matrix.storage in done:
            by_name[name] = done[matrix.storage]
            continue
        if matrix.routed is not None:
            kind = experts.type_of(matrix)
            part = None
            own = float32_array(own_experts[name])
            if kind is not None and kind not in FLOATS:
                with as_input_errors():
                    part = experts.quantized(matrix, own)
            if part is None:
                kinds.setdefault(
                    f"{kind or 'blocks of several types'}, experts", KeptType(stored="float32", exact=True)
                ).weights += 1
                continue
            part = round_scales(part) if kind in _closest() else part
            restored = part.dequantize()
            kept = kinds.setdefault(
                str(kind), KeptType(stored=_form_in_words(part), exact=bool(np.array_equal(restored, own)))
            )
            kept.add(name, own, restored)
            by_name[name] = part
            continue
        weight = by_storage.get(matrix.storage)
        if weight is None or len(weight.tensors) != 1:
            raise _unlike(name, "a weight that is put together from several tensors or none")
        tensor = weight.tensors[0]
        if tensor.type_name in FLOATS:
            kinds.setdefault(tensor.type_name, KeptType(stored="float32", exact=True)).weights += 1
            continue
        raw, values = read_blocks(tensor)
        with as_input_errors():
            quantized = blocks_to_quantized(tensor.type_name, raw, values, layer=name)
        if tensor.type_name in _closest():
            quantized = round_scales(quantized)
        quantized = _in_order(quantized, _row_order(weight, tensor), name)
        loaded: Any = source.module.get_submodule(matrix.name).weight
        own = float32_array(loaded)
        restored = quantized.dequantize()
        exact = bool(np.array_equal(restored, own))
        if tensor.type_name not in _closest() and not exact:
            raise _unlike(name, "other values than the model was loaded with")
        kept = kinds.setdefault(tensor.type_name, KeptType(stored=_form_in_words(quantized), exact=exact))
        kept.add(name, own, restored)
        if matrix.embedding and whole_bytes:
            quantized = widen(quantized)
        by_name[name] = done[matrix.storage] = quantized
    if not by_name:
        raise InputError(
            f"Nothing in {checkpoint} is quantized",
            received=", ".join(f"{kept.weights} x {kind}" for kind, kept in kinds.items()),
            allowed="a file with quantized tensors",
            fix="Leave --keep-quantization out.",
        )
    return QuantizedWeights(
        by_name=by_name, record={"algorithm": "kept", "types": {kind: kept.to_record() for kind, kept in kinds.items()}}
    )


def _row_order(weight: GgufWeight, tensor: GgufTensor) -> npt.NDArray[np.int64]:
    """Which row of the file each row of the module's weight is, found by sending numbered rows and columns through.

    Raises:
        InputError: the weight is not a mere reordering of rows.
    """
    import numpy as np

    rows, columns = tensor.shape
    numbered = np.broadcast_to(np.arange(rows, dtype=np.float32)[:, None], (rows, columns))
    order = _rearranged(weight, tensor, numbered)
    across = _rearranged(weight, tensor, np.broadcast_to(np.arange(columns, dtype=np.float32), (rows, columns)))
    whole = order.shape == across.shape == (rows, columns)
    if not whole or (order != order[:, :1]).any() or (across != np.arange(columns)).any():
        raise _unlike(tensor.name, "a weight whose columns are rearranged or whose values are changed on loading")
    return order[:, 0].astype(np.int64)


def _rearranged(weight: GgufWeight, tensor: GgufTensor, values: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    import numpy as np

    result = weight.processor.process(
        weights=np.ascontiguousarray(values),
        name=tensor.name,
        tensor_key_mapping=weight.mapping,
        parsed_parameters={"tensors": {}},
    )
    return np.asarray(result.weights)


def _in_order(quantized: BlockQuantized, order: npt.NDArray[np.int64], name: str) -> BlockQuantized:
    from dataclasses import replace

    if sorted(order.tolist()) != list(range(len(quantized.codes))):
        raise _unlike(name, "a weight whose rows are not those of the file")
    return replace(
        quantized,
        codes=quantized.codes[order],
        scales=quantized.scales[order],
        zero_points=quantized.zero_points[order],
    )


def _form_in_words(quantized: BlockQuantized) -> str:
    form = quantized.format
    kind = "symmetric" if form.symmetric else "asymmetric"
    return f"{form.bits} bits, {kind}, blocks of {form.block_size}"


def _closest() -> dict[str, Any]:
    from jisu.calibration.weights.gguf_blocks import CLOSEST

    return dict(CLOSEST)


def _unlike(name: str, received: str) -> InputError:
    return InputError(
        f"The stored integers of {name} cannot be kept",
        received=received,
        allowed="one tensor of the file, at most with its rows in another order",
        fix="Leave --keep-quantization out, or choose --precision int8 or int4.",
    )
