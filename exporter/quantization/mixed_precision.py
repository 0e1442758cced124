"""Finds the smallest mixed precision within a divergence, or the closest one within a size.

Figures of single units are added up and a knapsack is solved; the choice is then built and measured as a whole. What it
differs by from the sum (rounded activations, errors that do not add up) corrects the limit of the next try.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field, replace
from fnmatch import fnmatchcase
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.quantization.knapsack import choose_options
from jisu.exporter.quantization.quantize_source import QuantizedWeights
from jisu.exporter.quantization.sensitivity import EMBEDDING_FORMATS, FLOAT, Sensitivity, Unit
from jisu.exporter.quantization.weight_formats import FormatChoice, fit_block_size

# The gate judges on the worst of many domains: at 4 bits it was 1.6 times as far off as the mean of them, and the parts
# measured here are of what the weights are calibrated on.
_MARGIN = 0.5
# A choice that uses less than this share of what is allowed is worth another try.
_WORTHWHILE = 0.9
_TRIES = 4


@dataclass(frozen=True, kw_only=True)
class Goal:
    """What a mixed precision has to meet; at least one of the two.

    Attributes:
        max_kl: most mean KL divergence in nats; the bytes are then the least.
        max_bytes: most bytes of the artifact, all its files together; the divergence is then the least.
    """

    max_kl: float | None = None
    max_bytes: int | None = None


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What was built.

    Attributes:
        kl: mean KL divergence in nats on the worst part of the calibration mixture.
        bytes: of the whole artifact.
        by_part: mean KL divergence on each part.
    """

    kl: float
    bytes: int
    by_part: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True)
class MixedPrecision:
    """The chosen formats, the weights in them, and how they were found."""

    quantized: QuantizedWeights
    record: dict[str, Any]


Quantize = Callable[[FormatChoice], QuantizedWeights]
Measure = Callable[[QuantizedWeights], Measured]


def find_mixed_precision(
    sensitivity: Sensitivity,
    goal: Goal,
    *,
    quantize: Quantize,
    measure: Measure,
    again: Quantize | None = None,
    keep: Sequence[str] = (),
    embedding_labels: Sequence[str] = (FLOAT, *EMBEDDING_FORMATS),
    say: Callable[[str], None] = lambda text: None,
) -> MixedPrecision:
    """Choose, build, measure and correct until the goal is met.

    Args:
        quantize: carries a choice out.
        measure: builds the artifact of some weights and measures it on text that was not used for anything before.
        again: carries the choice that was found out once more, in a way that takes longer than ``quantize``; what it
            gives is taken where it measures better on the parts together.
        keep: patterns of module paths that stay float32.
        embedding_labels: formats that the target can read the embedding in.
        say: reports each try.

    Raises:
        InputError: no mixed precision meets the goal; says the best that is possible.
    """
    units = [_allowed(unit, keep, embedding_labels) for unit in sensitivity.units]
    if not any(len(unit.bytes) > 1 for unit in units):
        raise InputError(
            "There is nothing left to quantize",
            received=f"--keep {' '.join(keep)}",
            allowed="patterns that leave at least one layer",
            fix="Keep fewer layers.",
        )
    # Rounding every unit to 8 bits takes no calibration, and shows what the runtime's own rounding adds.
    labels = ["int8" if "int8" in unit.bytes else FLOAT for unit in units]
    quantized = quantize(_choice(units, labels, sensitivity))
    measured = measure(quantized)
    tries = [_try(units, labels, measured, limit=None)]
    overhead = measured.bytes - _bytes(units, labels)
    rounding = max(0.0, measured.kl - _kl(units, labels))
    units = _with_rounding(units, rounding)
    limit = _first_limit(units, goal, overhead)
    best: tuple[list[str], QuantizedWeights, Measured] | None = None
    near: tuple[list[str], QuantizedWeights, Measured] | None = None  # within the goal, but not within the margin
    for _ in range(_TRIES):
        labels = _choose(units, goal, limit, overhead)
        if best is not None and labels == best[0]:
            break
        quantized = quantize(_choice(units, labels, sensitivity))
        measured = measure(quantized)
        tries.append(_try(units, labels, measured, limit=limit))
        say(f"Formats {_count(labels)}: {measured.bytes / 1e6:.1f} MB, mean KL {measured.kl:.4g} on calibration text.")
        share = measured.bytes / goal.max_bytes if goal.max_bytes is not None else measured.kl / _aim(goal)
        if share <= 1 and (best is None or _better(goal, measured, best[2])):
            best = (labels, quantized, measured)
        elif goal.max_kl is not None and measured.kl <= goal.max_kl and (near is None or measured.kl < near[2].kl):
            near = (labels, quantized, measured)
        if best is not None and (goal.max_bytes is not None or share >= _WORTHWHILE):
            break
        # A choice may lie below its limit: what was too much is then the choice's own figure.
        own = _kl(units, labels) if goal.max_bytes is None else _bytes(units, labels)
        used = min(limit, own) if share > 1 else limit
        limit = _corrected(goal, used, measured, share)
    best = best or (near if goal.max_bytes is None else None)
    if best is None:
        raise InputError(
            "No mixed precision within the goal was found",
            received="; ".join(f"{entry['kl']:.4g} nats in {entry['bytes'] / 1e6:.1f} MB" for entry in tries),
            allowed=_describe(goal),
            fix="Raise --max-kl or --target-size, or give more calibration text.",
        )
    labels, quantized, measured = best
    chosen = _choice(units, labels, sensitivity)
    if again is not None and chosen.calibrated:
        other = again(chosen)
        remeasured = measure(other)
        tries.append(_try(units, labels, remeasured, limit=None))
        say(f"Rounded again, each layer behind the chosen ones: mean KL {remeasured.kl:.4g} on calibration text.")
        within = goal.max_bytes is None or remeasured.bytes <= goal.max_bytes
        within = within and (goal.max_kl is None or remeasured.kl <= max(_aim(goal), measured.kl))
        if within and _mean(remeasured) < _mean(measured):
            quantized, measured = other, remeasured
    record = {
        "goal": {key: value for key, value in asdict(goal).items() if value is not None},
        "predicted_kl": _kl(units, labels),
        "measured_kl": measured.kl,
        "runtime_rounding_kl": rounding,
        "tries": tries,
        "units": [
            {"names": list(unit.names), "format": label, "kl": unit.kl, "bytes": unit.bytes}
            for unit, label in zip(units, labels, strict=True)
        ],
    }
    return MixedPrecision(quantized=quantized, record=record)


def _allowed(unit: Unit, keep: Sequence[str], embedding_labels: Sequence[str]) -> Unit:
    """The unit without the formats that it may not have."""
    if any(fnmatchcase(name, pattern) for name in unit.names for pattern in keep):
        return replace(unit, kl={FLOAT: 0.0}, bytes={FLOAT: unit.bytes[FLOAT]})
    if unit.kind == "tables":
        return replace(
            unit,
            kl={label: kl for label, kl in unit.kl.items() if label in embedding_labels},
            bytes={label: size for label, size in unit.bytes.items() if label in embedding_labels},
        )
    return unit


def _with_rounding(units: Sequence[Unit], rounding: float) -> list[Unit]:
    """Spread what the runtime's rounding adds over the units by their size: only int8 matmuls have it."""
    whole = sum(unit.elements for unit in units if len(unit.bytes) > 1)
    return [
        replace(
            unit,
            kl={
                label: kl if label == FLOAT else max(0.0, kl) + rounding * unit.elements / whole
                for label, kl in unit.kl.items()
            },
        )
        for unit in units
    ]


def _aim(goal: Goal) -> float:
    assert goal.max_kl is not None
    return _MARGIN * goal.max_kl


def _first_limit(units: Sequence[Unit], goal: Goal, overhead: int) -> float:
    if goal.max_bytes is None:
        return _aim(goal)
    smallest = overhead + sum(min(unit.bytes.values()) for unit in units)
    if smallest > goal.max_bytes:
        raise InputError(
            "No mixed precision is this small",
            received=f"--target-size {goal.max_bytes / 1e6:.1f}MB",
            allowed=f"at least {smallest / 1e6:.1f} MB, everything in its smallest format",
            fix="Choose a larger --target-size.",
        )
    return float(goal.max_bytes - overhead)


def _choose(units: Sequence[Unit], goal: Goal, limit: float, overhead: int) -> list[str]:
    kls = [[max(0.0, kl) for kl in unit.kl.values()] for unit in units]
    sizes = [[float(unit.bytes[label]) for label in unit.kl] for unit in units]
    by_size = goal.max_bytes is not None
    chosen = choose_options(*((kls, sizes) if by_size else (sizes, kls)), limit=limit)
    if chosen is None:
        # Rounding up the weights of the program can miss the one choice that just fits.
        chosen = [row.index(min(row)) for row in (sizes if by_size else kls)]
    return [list(unit.kl)[option] for unit, option in zip(units, chosen, strict=True)]


def _corrected(goal: Goal, limit: float, measured: Measured, share: float) -> float:
    if goal.max_bytes is not None:
        return limit - max(0, measured.bytes - goal.max_bytes)
    return limit / share * 0.97


def _better(goal: Goal, measured: Measured, best: Measured) -> bool:
    return measured.kl < best.kl if goal.max_bytes is not None else measured.bytes < best.bytes


def _mean(measured: Measured) -> float:
    """Over the parts of the mixture: each alone is too few windows to tell two roundings of one choice apart."""
    return sum(measured.by_part.values()) / len(measured.by_part) if measured.by_part else measured.kl


def _choice(units: Sequence[Unit], labels: Sequence[str], sensitivity: Sensitivity) -> FormatChoice:
    formats = {}
    for unit, label in zip(units, labels, strict=True):
        for name in unit.names:
            known = sensitivity.candidates[unit.kind]
            formats[name] = None if label == FLOAT else fit_block_size(known[label], unit.features)
    return FormatChoice(formats=formats, algorithm="gptq")


def _bytes(units: Sequence[Unit], labels: Sequence[str]) -> int:
    return sum(unit.bytes[label] for unit, label in zip(units, labels, strict=True))


def _kl(units: Sequence[Unit], labels: Sequence[str]) -> float:
    return sum(max(0.0, unit.kl[label]) for unit, label in zip(units, labels, strict=True))


def _try(units: Sequence[Unit], labels: Sequence[str], measured: Measured, *, limit: float | None) -> dict[str, Any]:
    return {
        "limit": limit,
        "predicted_kl": _kl(units, labels),
        "kl": measured.kl,
        "bytes": measured.bytes,
        **({"kl_by_part": measured.by_part} if measured.by_part else {}),
        "units": {label: list(labels).count(label) for label in dict.fromkeys(labels)},
    }


def _count(labels: Sequence[str]) -> str:
    return ", ".join(f"{labels.count(label)} {label}" for label in sorted(set(labels)))


def _describe(goal: Goal) -> str:
    parts = [] if goal.max_kl is None else [f"a mean KL divergence of at most {goal.max_kl:g} nats"]
    parts += [] if goal.max_bytes is None else [f"at most {goal.max_bytes / 1e6:.1f} MB"]
    return " and ".join(parts)
