"""Seconds and memory of an export from shapes and a fifth of a second of arithmetic on this machine.

The shares of the arithmetic's speed that each stage reaches were measured on SmolLM2-135M (2 cores, AVX-512); on other
machines and models the seconds are a guide, right to a factor of about two.
"""

from __future__ import annotations

import time
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jisu.exporter.estimates.size_estimate import SizeEstimate, shape_facts
from jisu.exporter.precision.precision import KEPT, MIXED, Int8MatmulFormat
from jisu.exporter.quantization.sensitivity import split_windows

if TYPE_CHECKING:
    from jisu.exporter.quantization.prepared import Prepared
    from jisu.exporter.sources.source import Source

# Python, torch, transformers and onnxruntime themselves.
_BASE_BYTES = 850_000_000
_READ_BYTES_PER_SECOND = 5e8
_IMPORT_SECONDS, _TRACE_SECONDS, _TRACE_SECONDS_PER_LAYER = 3.5, 4.0, 0.03
_WRITE_BYTES_PER_SECOND = 3e8
# Weights rounded to the nearest in a second, with a search for each block's scale.
_ROUNDED_PER_SECOND = 1.5e7
# Tokens that the gate runs through the model or its source, and the runs of every calibration token.
_GATE_TOKENS, _QUALITY_TOKENS = 2600, 3500
_PRODUCT_RUNS, _SENSITIVITY_RUNS = 2.6, 12.0
# Layers are quantized once for every format, and once for every mixed precision that is tried; the first takes no GPTQ.
_CANDIDATES, _MIXES = 3, 2.5
# Shares of the measured arithmetic that the model's own forward pass and GPTQ reach.
_FORWARD_SHARE, _GPTQ_SHARE = 0.6, 0.4
_MEASURED_SECONDS = 0.2
# Of one window's logits: reference, candidate, both as logarithms in float64, and what lies between.
_QUALITY_COPIES, _WINDOW = 40, 256


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What a stage of the export will take: seconds of wall clock, and bytes of resident memory at its peak."""

    name: str
    seconds: float
    peak_bytes: int


def estimate_cost(
    source: Source, prepared: Prepared, size: SizeEstimate, *, operations_per_second: float | None = None
) -> tuple[StageCost, ...]:
    """The stages in their order.

    Args:
        size: see `exporter.estimates.size_estimate.estimate_size`.
        operations_per_second: of this machine in float32; measured when None.
    """
    rate = operations_per_second or measure_arithmetic()
    weights = source.weight_bytes
    parameters = weights / 4
    forward = 2 * parameters / (rate * _FORWARD_SHARE)  # seconds for a token
    loaded = _BASE_BYTES + weights
    stages = [
        StageCost(
            name="load", seconds=_IMPORT_SECONDS + weights / _READ_BYTES_PER_SECOND, peak_bytes=_BASE_BYTES + weights
        ),
        StageCost(
            name="trace",
            seconds=_TRACE_SECONDS + _TRACE_SECONDS_PER_LAYER * source.model.layers,
            peak_bytes=loaded + 100_000_000,
        ),
        *_quantization(source, prepared, size, forward=forward, rate=rate, loaded=loaded),
        StageCost(
            name="optimize and write",
            seconds=1 + size.largest_bytes / _WRITE_BYTES_PER_SECOND,
            peak_bytes=loaded + weights // 4,
        ),
    ]
    budget = prepared.options.precision.budget
    tokens = _GATE_TOKENS + (_QUALITY_TOKENS if budget.judges_quality else 0)
    copies = _QUALITY_COPIES if budget.judges_quality else _QUALITY_COPIES // 8
    opened = size.largest_bytes if budget.max_logit_error is not None else 2 * size.largest_bytes
    prove = StageCost(
        name="verify",
        seconds=2 + tokens * forward,
        peak_bytes=loaded + opened + copies * _WINDOW * source.model.vocab_size,
    )
    return (*stages, prove)


def _quantization(
    source: Source, prepared: Prepared, size: SizeEstimate, *, forward: float, rate: float, loaded: int
) -> list[StageCost]:
    from jisu.calibration.needs import sequential_needs

    plan, precision = prepared.plan, prepared.options.precision
    tokens = 0 if prepared.data is None else prepared.data.windows.ids.size
    parameters = source.weight_bytes / 4
    rounding = parameters / _ROUNDED_PER_SECOND
    if precision.name in KEPT or (any(plan.formats.values()) and not plan.calibrated):
        return [StageCost(name="quantize", seconds=rounding, peak_bytes=loaded + int(parameters))]
    if precision.name != MIXED and not plan.calibrated:
        return []
    if any(isinstance(form, Int8MatmulFormat) for form in plan.formats.values()):
        seconds = rounding + _PRODUCT_RUNS * tokens * forward
        return [StageCost(name="quantize", seconds=seconds, peak_bytes=2 * loaded - _BASE_BYTES + 300_000_000)]
    facts = shape_facts(source)
    windows, length = prepared.data.windows.ids.shape if prepared.data is not None else (0, 0)
    if precision.name == MIXED:
        windows = len(split_windows(prepared.data)["statistics"]) if prepared.data is not None else 0
    needs = sequential_needs(
        facts["groups"], layers=source.model.layers, windows=windows, length=length, width=facts["width"]
    )
    gptq = needs.seconds(rate * _GPTQ_SHARE)
    peak = loaded + needs.memory_bytes + int(parameters)
    if precision.name != MIXED:
        return [StageCost(name="quantize", seconds=gptq, peak_bytes=peak)]
    measured = StageCost(
        name="sensitivity", seconds=_SENSITIVITY_RUNS * tokens * forward + _CANDIDATES * gptq, peak_bytes=peak
    )
    mix = StageCost(name="mix", seconds=_MIXES * gptq, peak_bytes=peak + size.largest_bytes)
    sensitivity = prepared.options.sensitivity
    return [mix] if sensitivity is not None and sensitivity.exists() else [measured, mix]


def measure_arithmetic() -> float:
    """Float32 operations a second of matrix products as large as a decoder's, the best of a few repetitions."""
    import torch

    left, right = torch.randn(256, 1024), torch.randn(1024, 1024)
    operations = 2.0 * left.shape[0] * right.shape[0] * right.shape[1]
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < _MEASURED_SECONDS:
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return operations / best
