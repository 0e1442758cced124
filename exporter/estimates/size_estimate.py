"""Bytes of an artifact from the shapes of a source alone: what every weight will be stored as, and the files beside."""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.estimates.feature_sizes import feature_rows
from jisu.exporter.precision.half_precision import computed_half
from jisu.exporter.precision.precision import (
    KEPT,
    KEPT_FOLDER,
    KEPT_GGUF,
    MIXED,
    STORED_BITS,
    Format,
    GridFormat,
    Int8MatmulFormat,
    RowFormat,
    WeightFormat,
    kernel_bits,
)
from jisu.exporter.quantization.grids import grid_bytes
from jisu.exporter.quantization.matrices import Matrix, matrices_of
from jisu.exporter.quantization.walked_sensitivity import kept_storages
from jisu.exporter.quantization.weight_formats import (
    fit_block_size,
    scale_bytes,
    stores_all_bits,
    takes_short_blocks,
)
from jisu.exporter.sources.experts import expert_weights, find_experts, named_weights

if TYPE_CHECKING:
    from jisu.exporter.quantization.prepared import Prepared
    from jisu.exporter.sources.source import Source

# Of graph and manifest; measured from 2 to 30 layers. Scarcely anything beside the weights of a real model.
_GRAPH_BYTES, _GRAPH_BYTES_PER_LAYER = 45_000, 7_000
# Of each expert's matrix: a node, its constants and its name in the manifest.
_GRAPH_BYTES_PER_EXPERT = 1_300
_FLOAT_BYTES, _HALF_BYTES = 4, 2
# Types of GGUF blocks whose scales are products, which two bytes do not hold.
_FINE_SCALES = ("Q3_K", "Q6_K", "IQ4_XS")
# Label of what no choice of formats speaks of: biases, norms, and weights that are no matrix of a linear layer.
_OTHERS = "float32"


@dataclass(frozen=True, kw_only=True)
class WeightShare:
    """The weights that are stored in one way.

    Attributes:
        label: the format in words.
        weights: how many tensors, tied ones counted once.
        elements: of all of them.
        smallest_bytes, largest_bytes: as they are stored; they differ where measurements will choose.
    """

    label: str
    weights: int
    elements: int
    smallest_bytes: int
    largest_bytes: int


@dataclass(frozen=True, kw_only=True)
class SizeEstimate:
    """Weights by format, the tables of rotations that are stored with them, and the files of the tokenizer.

    ``limit``: bytes that the user allows.
    """

    target: str
    shares: tuple[WeightShare, ...]
    table_bytes: int
    tokenizer_bytes: int
    graph_bytes: int
    limit: int | None = None

    @property
    def smallest_bytes(self) -> int:
        return self._beside + sum(share.smallest_bytes for share in self.shares)

    @property
    def largest_bytes(self) -> int:
        largest = self._beside + sum(share.largest_bytes for share in self.shares)
        return largest if self.limit is None else min(largest, self.limit)

    @property
    def _beside(self) -> int:
        return self.table_bytes + self.tokenizer_bytes + self.graph_bytes


def estimate_size(source: Source, prepared: Prepared, *, target: str) -> SizeEstimate:
    """Sizes of an artifact; within a hundredth for a model of a hundred million parameters.

    Args:
        source: shapes are read, values never: it may be an outline.
        prepared: the formats, see `exporter.quantization.prepared.prepare_quantization`.

    Raises:
        InputError: a GGUF file whose blocks cannot be kept.
    """
    known = _known_forms(source, prepared, target)
    precision = prepared.options.precision
    half = precision.half or computed_half(precision, target)
    # Of a half precision a choice lists the weights that are kept; what else it leaves out becomes half.
    kept_names = {f"{name}.weight" for name in prepared.choice.formats} if precision.half is not None else set()
    rows: dict[str, list[int]] = {}
    for name, parameter in named_weights(source.module).items():  # a shared one comes once
        elements = parameter.numel()
        if name in known:
            label, smallest, largest = known[name]
        elif half is not None and parameter.dim() >= 2 and name not in kept_names:
            label, smallest, largest = half, _HALF_BYTES * elements, _HALF_BYTES * elements
        else:
            label, smallest, largest = _OTHERS, _FLOAT_BYTES * elements, _FLOAT_BYTES * elements
        row = rows.setdefault(label, [0, 0, 0, 0])
        for index, value in enumerate((1, elements, smallest, largest)):
            row[index] += value
    for label, elements, stored in feature_rows(source, prepared, target=target):
        row = rows.setdefault(label, [0, 0, 0, 0])
        for index, value in enumerate((1, elements, stored, stored)):
            row[index] += value
    shares = (
        WeightShare(label=label, weights=row[0], elements=row[1], smallest_bytes=row[2], largest_bytes=row[3])
        for label, row in rows.items()
    )
    layers = source.model.layers
    return SizeEstimate(
        target=target,
        shares=tuple(sorted(shares, key=lambda share: -share.elements)),
        table_bytes=0 if target.startswith("ort-") else _rotation_bytes(source),
        tokenizer_bytes=_tokenizer_bytes(source),
        graph_bytes=_GRAPH_BYTES
        + _GRAPH_BYTES_PER_LAYER * layers
        + _GRAPH_BYTES_PER_EXPERT * len(expert_weights(source.module)),
        limit=prepared.options.goal.max_bytes,
    )


def refuse_unreachable_size(source: Source, prepared: Prepared, *, target: str) -> None:
    """Raise InputError for a target size that the smallest formats miss by more than the estimate may be off."""
    limit = prepared.options.goal.max_bytes
    if limit is None:
        return
    smallest = estimate_size(source, prepared, target=target).smallest_bytes
    if 0.99 * smallest > limit:
        raise InputError(
            "No mixed precision is this small",
            received=f"--target-size {limit / 1e6:g}MB",
            allowed=f"about {smallest / 1e6:.3g} MB, everything in its smallest format",
            fix="Choose a larger --target-size.",
        )


def _known_forms(source: Source, prepared: Prepared, target: str) -> dict[str, tuple[str, int, int]]:
    """Parameter name -> (label, smallest bytes, largest bytes), under every name of a tied weight."""
    precision = prepared.options.precision
    if precision.name not in (MIXED, *KEPT) and not any(prepared.choice.formats.values()):
        return {}
    matrices = matrices_of(source.module)
    if precision.name == MIXED:
        narrow = stores_all_bits(target, matrices)
        kept = kept_storages(matrices, prepared.options.keep)
        forms = {
            one.name: _mixed_form(one, target, narrow=narrow) if one.storage not in kept else _unquantized(one)
            for one in matrices
        }
    elif precision.name == KEPT_FOLDER:
        forms = _kept_forms(source, matrices, target)
    elif precision.name == KEPT_GGUF:
        forms = _stored_forms(source, matrices, prepared.options.checkpoint, target)
    else:
        forms = {
            matrix.name: _planned_form(matrix, form, scale_bytes(target))
            for matrix in matrices
            if (form := prepared.choice.formats.get(matrix.name)) is not None
        }
    # Whichever name of a tied weight the module lists first, the weight is found.
    by_storage = {matrix.storage: forms[matrix.name] for matrix in matrices if matrix.name in forms}
    return {m.parameter: by_storage[m.storage] for m in matrices if m.storage in by_storage}


def _planned_form(matrix: Matrix, form: Format, bytes_per_scale: int) -> tuple[str, int, int]:
    if isinstance(form, RowFormat):
        size = matrix.elements + _FLOAT_BYTES * matrix.rows
        return f"{form.bits} bits, one scale a row", size, size
    if isinstance(form, Int8MatmulFormat):
        inputs = "8-bit inputs of a calibrated range" if form.static else "8-bit inputs, each row its own range"
        size = matrix.elements + _FLOAT_BYTES * matrix.rows
        return f"8 bits, one scale a row, {inputs}", size, size
    if isinstance(form, GridFormat):
        size = grid_bytes(matrix, form, bytes_per_scale=bytes_per_scale)
        return f"{form.bits} bits in blocks of {form.block_size}, the checkpoint's own", size, size
    size = _block_bytes(matrix, form, bytes_per_scale)
    return describe_blocks(form), size, size


def _unquantized(matrix: Matrix) -> tuple[str, int, int]:
    return _OTHERS, _FLOAT_BYTES * matrix.elements, _FLOAT_BYTES * matrix.elements


def _mixed_form(matrix: Matrix, target: str, *, narrow: bool) -> tuple[str, int, int]:
    from jisu.exporter.quantization.prepared import embedding_labels
    from jisu.exporter.quantization.sensitivity import EMBEDDING_FORMATS, LAYER_FORMATS

    whole = _FLOAT_BYTES * matrix.elements
    candidates = EMBEDDING_FORMATS if matrix.embedding else LAYER_FORMATS
    allowed = embedding_labels(target) if matrix.embedding else tuple(candidates)
    formats = {
        label: form
        for label, form in candidates.items()
        if label in allowed and (narrow or form.bits not in STORED_BITS)
    }
    short = takes_short_blocks(target)
    fitted = [fit_block_size(form, matrix.features, short=short) for form in formats.values()]
    sizes = [_block_bytes(matrix, form, scale_bytes(target)) for form in fitted if form is not None]
    return f"measured: {', '.join(formats)} or fp32", min([*sizes, whole]), whole


def _stored_forms(
    source: Source, matrices: list[Matrix], checkpoint: str | Path, target: str
) -> dict[str, tuple[str, int, int]]:
    from jisu.calibration.weights.gguf_blocks import CLOSEST, EXACT, FLOATS
    from jisu.exporter.sources.gguf.parts import read_gguf
    from jisu.exporter.sources.gguf.weights import lazy_weights

    weights, _ = lazy_weights(read_gguf(Path(checkpoint)), source.module)
    narrow = stores_all_bits(target, matrices)
    forms = {}
    for matrix in matrices:
        weight = weights.get(matrix.routed or f"{matrix.name}.weight")
        kind = None if weight is None else weight.tensors[0].type_name
        if kind is None or kind in FLOATS:
            continue
        if kind not in CLOSEST and kind not in EXACT:
            raise InputError(
                f"{kind} blocks in {matrix.name} cannot be kept",
                received=kind,
                allowed=", ".join((*EXACT, *CLOSEST)),
                fix="Export without --keep-quantization.",
            )
        stored = CLOSEST[kind] if kind in CLOSEST else EXACT[kind].format
        bits = stored.bits if narrow else kernel_bits(stored.bits)
        bits = 8 if matrix.embedding and target == "portable" else bits
        form = WeightFormat(bits=bits, block_size=stored.block_size, symmetric=stored.symmetric)
        size = _block_bytes(matrix, form, 4 if kind in _FINE_SCALES else scale_bytes(target))
        exact = "closest to" if kind in CLOSEST else "exactly"
        forms[matrix.name] = (f"{describe_blocks(form)}, {exact} {kind}", size, size)
    return forms


def _kept_forms(source: Source, matrices: list[Matrix], target: str) -> dict[str, tuple[str, int, int]]:
    from jisu.exporter.quantization.keep_integers import describe_form, kept_format

    forms = {}
    assert source.open_quantized is not None, "integers to keep of a source that has none"
    with source.open_quantized() as stored:
        for matrix in matrices:
            weight = stored.get(matrix.parameter) or stored.get(matrix.routed or "")
            form, exact = (None, False) if weight is None else kept_format(weight, matrix.features)
            if weight is None or form is None:
                continue
            if matrix.embedding and target == "portable":
                form = replace(form, bits=8)
            smallest, largest = (
                replace(form, symmetric=symmetric).stored_bytes(
                    matrix.rows, matrix.features, layer=matrix.name, scale_bytes=scale_bytes(target)
                )
                for symmetric in (True, False)
            )
            label = f"{describe_form(form)}, {'exactly' if exact else 'closest to'} {weight.form}"
            forms[matrix.name] = (label, smallest, largest)
    return forms


def _block_bytes(matrix: Matrix, form: WeightFormat, bytes_per_scale: int) -> int:
    return form.to_block_format().stored_bytes(
        matrix.rows, matrix.features, layer=matrix.name, scale_bytes=bytes_per_scale
    )


def describe_blocks(form: WeightFormat) -> str:
    """A block format in words."""
    where = f"in blocks of {form.block_size}" if form.block_size else "with one scale a row"
    return f"{form.bits} bits {where}, {'symmetric' if form.symmetric else 'with zero points'}"


def _rotation_bytes(source: Source) -> int:
    """Cosines and sines of every position, which the rotations of most decoders are turned into.

    They are computed anew on ort-cpu, but for a few scaling rules (`exporter.passes.compute_rope_tables`).
    """
    from jisu.exporter.passes.fuse_rope import LARGEST_TABLE

    positions = source.model.max_positions or 0
    one_table = [
        _FLOAT_BYTES * positions * buffer.numel()
        for name, buffer in source.module.named_buffers()
        if name.endswith("inv_freq") and not name.endswith("original_inv_freq")
    ]
    return sum(2 * size for size in one_table if size <= LARGEST_TABLE)


def _tokenizer_bytes(source: Source) -> int:
    """Of the files as they will be written, which is the only way to know: they are, elsewhere, and removed."""
    with tempfile.TemporaryDirectory() as folder:
        source.save_tokenizer(Path(folder))
        return sum(path.stat().st_size for path in Path(folder).rglob("*") if path.is_file())


def shape_facts(source: Source) -> dict[str, Any]:
    """Width of the hidden states and the layers of one decoder layer, experts side by side; for estimates of time."""
    from jisu.calibration.needs import LayerGroup

    matrices = [matrix for matrix in matrices_of(source.module) if not matrix.embedding]
    first = matrices[: max(1, len(matrices) // max(1, source.model.layers))]
    copies: dict[str, int] = {}
    for matrix in first:
        label = matrix.routed or matrix.name
        copies[label] = copies.get(label, 0) + 1
    share = _routed_share(source, max(copies.values(), default=1))
    by_label = {matrix.routed or matrix.name: matrix for matrix in first}
    return {
        "groups": [
            LayerGroup(matrix.rows, matrix.features, copies[label], share if matrix.routed else 1.0)
            for label, matrix in by_label.items()
        ],
        "width": first[0].features if first else 0,
    }


def active_weights(source: Source) -> float:
    """The weights that one token meets: of experts those that it is sent to."""
    stacked = [experts.down_proj for _, experts in find_experts(source.module)]
    routed = sum(weight.numel() for weight in expert_weights(source.module).values())
    share = _routed_share(source, len(stacked[0])) if stacked else 1.0
    return source.weight_bytes / 4 - routed * (1 - share)


def _routed_share(source: Source, experts: int) -> float:
    """The share of a mixture's experts that each token is sent to; all of them where the configuration is silent."""
    config = getattr(source.module, "config", None)
    names = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
    chosen = next((value for name in names if isinstance(value := getattr(config, name, None), int)), experts)
    return min(1.0, chosen / experts)
