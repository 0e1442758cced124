"""What a half precision means for a target: what operators compute in, and what a user gains."""

from __future__ import annotations

from jisu.exporter.precision.precision import KEPT, MIXED, PRECISIONS, HalfType, Precision, WeightFormat

# Windows of calibration text that activations are measured on. The largest ones stand at the first tokens of any text.
MEASURED_WINDOWS = 4
# Their kinds, one of each: what activations are largest on are special tokens and rare ones, which need no writing.
RANGE_SHARES = {"prompts": 1.0, "prose": 1.0, "code": 1.0, "random tokens": 1.0}
# Targets whose products of half activations and integer weights are the fast ones.
_MULTIPLIES_IN_HALF = ("tensorrt", "ort-cuda")


def computed_half(precision: Precision, target: str) -> HalfType | None:
    """The half type that operators have on a target: a half precision's own, or the one beside integer weights."""
    if _stores_only(target):
        return None
    # A mixed precision and a file's own blocks are integer weights too, whose formats are known layer by layer.
    integers = isinstance(precision.layers, WeightFormat) or precision.name in (MIXED, *KEPT)
    if precision.half is None and target in _MULTIPLIES_IN_HALF and integers:
        return "float16"
    return precision.half


def measures_activations(precision: Precision, target: str) -> bool:
    """Whether activations are computed in half, so that it has to be known how large they become."""
    return computed_half(precision, target) is not None


def describe_half(target: str, precision: str) -> str | None:
    """A plain word on what the format does not give on this target; None where there is nothing to say."""
    known = PRECISIONS.get(precision)
    if known is None or known.half is None or not _stores_only(target):
        return None
    return (
        f"On {target}, {precision} halves the files and nothing else: CPUs compute in float32, so that neither "
        "speed nor memory gains. --precision int8 is smaller and, on most CPUs, faster."
    )


def _stores_only(target: str) -> bool:
    """Whether the format is one of the files alone: this target's kernels compute in float32."""
    return target == "ort-cpu"
