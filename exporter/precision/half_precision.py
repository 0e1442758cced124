"""What a half precision means for a target: what passes need to know, what the manifest records, what a user gains."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from exporter.precision.precision import KEPT, MIXED, PRECISIONS, HalfType, Precision, WeightFormat

if TYPE_CHECKING:
    from exporter.quantization.options import Ready

# Windows of calibration text that activations are measured on. The largest ones stand at the first tokens of any text.
MEASURED_WINDOWS = 4
# Targets whose products of half activations and integer weights are the fast ones.
_MULTIPLIES_IN_HALF = ("tensorrt", "ort-cuda")


def computed_half(precision: Precision, target: str) -> HalfType | None:
    """The half type that operators have on a target: a half precision's own, or the one beside integer weights."""
    if _stores_only(target):
        return None
    # A mix and a file's own blocks are integer weights too, whose formats are known layer by layer.
    integers = isinstance(precision.layers, WeightFormat) or precision.name in (MIXED, KEPT)
    if precision.half is None and target in _MULTIPLIES_IN_HALF and integers:
        return "float16"
    return precision.half


def measures_activations(precision: Precision, target: str) -> bool:
    """Whether activations are computed in half, so that it has to be known how large they become."""
    return computed_half(precision, target) is not None


def half_facts(ready: Ready, target: str) -> dict[str, Any]:
    """What the passes of a half precision ask for, see `exporter.passes.recipes`; nothing for the other ones."""
    precision = ready.options.precision
    half = precision.half or computed_half(precision, target)
    if half is None:
        return {}
    windows = None if ready.data is None else ready.data.windows.as_list()[:MEASURED_WINDOWS]
    # A plan with integers lists all layers; what it leaves out becomes half like everything else.
    kept = () if precision.half is None else ready.plan.formats
    return {"half": half, "kept": frozenset(f"{name}.weight" for name in kept), "windows": windows}


def half_record(ready: Ready) -> dict[str, Any]:
    """Format, the weights that the user kept and the text that activations were measured on, for the manifest."""
    precision = ready.options.precision
    if precision.half is None:
        return {}
    kept = {"kept": sorted(ready.plan.formats)} if ready.plan.formats else {}
    return {"format": precision.half, **kept, **({} if ready.data is None else {"calibration": ready.data.record})}


def describe_half(target: str, precision: str) -> str | None:
    """A plain word on what the format does not give on this target; None where there is nothing to say."""
    known = PRECISIONS.get(precision)
    if known is None or known.half is None or not _stores_only(target):
        return None
    return (
        f"On {target}, {precision} halves the files and nothing else: processors compute in float32, so that neither "
        "speed nor memory gains. --precision int8 is smaller and, on most processors, faster."
    )


def _stores_only(target: str) -> bool:
    """Whether the format is one of the files alone: this target's kernels compute in float32."""
    return target == "ort-cpu"
