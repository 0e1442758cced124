"""Mixed precision where layers keep their own grid: what is left to choose is the format of the embedding.

Nothing is lost in the layers, so that no sensitivity has to be measured: each format of the embedding is built and
measured as a whole, until the goal is met.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, replace
from typing import TYPE_CHECKING

from jisu.exporter.precision.precision import PRECISIONS, WeightFormat
from jisu.exporter.quantization.grids import keep_grids
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.mixed_precision import Goal, Measure, MixedPrecision, Quantize
from jisu.exporter.quantization.sensitivity import EMBEDDING_FORMATS
from jisu.exporter.quantization.weight_formats import FormatChoice, choose_formats, fit_block_size

if TYPE_CHECKING:
    from jisu.exporter.sources.source import Source


def grid_choice(source: Source, *, keep: Sequence[str]) -> FormatChoice | None:
    """A choice in which every layer with few bits keeps its grid; None where one of them has none.

    Args:
        keep: patterns of module paths that stay float32.
    """
    choice = keep_grids(source, choose_formats(matrices_of(source.module), PRECISIONS["int4"], keep=keep))
    return choice if choice.algorithm == "grid" else None


def find_grid_mixed_precision(
    source: Source,
    choice: FormatChoice,
    goal: Goal,
    *,
    quantize: Quantize,
    measure: Measure,
    embedding_labels: Sequence[str],
    say: Callable[[str], None] = lambda text: None,
) -> MixedPrecision | None:
    """Of the embedding's formats the best within a size, or the smallest within a divergence; None where none is.

    Args:
        choice: see `grid_choice`.
        quantize: carries a choice out.
        measure: builds the artifact of some weights and measures it on text that was not used for anything before.
        embedding_labels: formats that the target can read the embedding in.
        say: told what was tried.
    """
    embeddings = [
        matrix for matrix in matrices_of(source.module) if matrix.embedding and choice.formats[matrix.name] is not None
    ]
    labels = [label for label in EMBEDDING_FORMATS if label in embedding_labels]  # the largest first
    labels = labels if goal.max_kl is None else labels[::-1]
    names = [matrix.name for matrix in embeddings]
    kl: dict[str, float] = {}
    sizes: dict[str, int] = {}
    tries = []
    for label in labels:
        formats: dict[str, WeightFormat | None] = {
            matrix.name: fit_block_size(EMBEDDING_FORMATS[label], matrix.features) for matrix in embeddings
        }
        if None in formats.values():
            continue
        changed = replace(choice, formats={**choice.formats, **formats})
        quantized = quantize(replace(changed, algorithm="gptq") if EMBEDDING_FORMATS[label].bits < 8 else changed)
        measured = measure(quantized)
        kl[label], sizes[label] = measured.kl, measured.bytes
        units = {label: len(names), "grid": len(choice.formats) - len(names)}
        tries.append({"limit": goal.max_bytes, "predicted_kl": measured.kl, **asdict(measured), "units": units})
        say(f"Layers on their grid, embedding in {label}: {measured.bytes / 1e6:.1f} MB, mean KL {measured.kl:.4g}.")
        within = goal.max_bytes is None or measured.bytes <= goal.max_bytes
        if within and (goal.max_kl is None or measured.kl <= goal.max_kl):
            record = {
                "goal": {key: value for key, value in asdict(goal).items() if value is not None},
                "predicted_kl": measured.kl,
                "measured_kl": measured.kl,
                "runtime_rounding_kl": 0.0,
                "tries": tries,
                "units": [{"names": names, "format": label, "kl": kl, "bytes": sizes}] if names else [],
            }
            return MixedPrecision(quantized=quantized, record=record)
        if not names:
            break
    return None
