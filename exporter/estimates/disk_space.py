"""Whether an artifact will fit onto the disk, known before anything is written."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.output_path import existing_parent
from jisu.exporter.precision.precision import MIXED
from jisu.exporter.quantization.expected_costs import TOKENS, WINDOWS
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.spread_bits import between
from jisu.exporter.sources.experts import expert_weights
from jisu.exporter.sources.outline import is_outline
from jisu.exporter.sources.paged_weights import is_large

if TYPE_CHECKING:
    from jisu.exporter.estimates.size_estimate import SizeEstimate
    from jisu.exporter.quantization.prepared import Prepared
    from jisu.exporter.sources.source import Source

# Tokenizer, graph and records.
_SIDE_FILES = 64 << 20
_FLOAT_BYTES, _HALF_BYTES = 4, 2
_TRIED = 3  # mixed precisions, whose integers stay in the file until the end


def disk_space(out: Path, source: Source, prepared: Prepared, size: SizeEstimate | None) -> tuple[int, int]:
    """Bytes that an export writes from here on, and those that are free where it writes.

    Beside the artifact that is the integers of a model whose weights lie in a file, in each format that they may get,
    and, where nothing has been loaded yet, these weights, unless they are read where the checkpoint has them, which
    stacked experts are not.

    Args:
        source: may be an outline.
        size: of the artifact, see `exporter.estimates.size_estimate.estimate_size`; the weights in float32 when None.
    """
    needed = (source.weight_bytes if size is None else size.largest_bytes) + _SIDE_FILES
    if is_large(source):
        if is_outline(source):
            needed += _stacked_bytes(source) if source.in_place else source.weight_bytes
        mixed = prepared.options.precision.name == MIXED
        if mixed or prepared.options.precision.layers is not None or prepared.choice.formats:
            needed += source.weight_bytes // _FLOAT_BYTES
            finer = between(source, prepared.choice)  # until it is known which layer has which
            if mixed:  # in all formats below 8 bits at once, what is tried in 8 bits, and what is rounded again
                needed += (max(0, len(prepared.walked) - 2) + _TRIED) * source.weight_bytes // _FLOAT_BYTES
            if prepared.walked or finer:  # what entered each layer, of each window and of all
                features = sum(matrix.features for matrix in matrices_of(source.module) if not matrix.embedding)
                needed += 2 * _FLOAT_BYTES * WINDOWS * TOKENS * features
            needed += sum(matrix.elements * len(finer.get(matrix.name, ())) for matrix in matrices_of(source.module))
    return needed, shutil.disk_usage(existing_parent(out)).free


def _stacked_bytes(source: Source) -> int:
    """Of the experts of a checkpoint in two bytes: a file has them one by one, and their stacks are copies."""
    return _HALF_BYTES * sum(weight.numel() for weight in expert_weights(source.module).values())


def require_disk(needed: int, free: int, *, out: Path) -> None:
    """Raise InputError when an artifact at ``out`` does not fit."""
    if free < needed:
        raise InputError(
            f"There is too little free space under {existing_parent(out)} for the artifact",
            received=f"{free / 1e6:.0f} MB free",
            allowed=f"at least {needed / 1e6:.0f} MB",
            fix="Free disk space, or choose another --out.",
        )
