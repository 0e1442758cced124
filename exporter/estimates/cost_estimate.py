"""Seconds and memory of an export from shapes and a fifth of a second of arithmetic on this machine.

The shares of the arithmetic's speed that each stage reaches were measured on models of 0.135, 0.5 and 1.5 billion
parameters (2 cores, AVX-512); on other machines and models the seconds are a guide, right to a factor of about two.
Weights of large models lie in a file, of which a part is in memory: what counts is then the largest of them,
`exporter.sources.paged_weights`.
"""

from __future__ import annotations

import statistics
import time
from dataclasses import dataclass
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import SPEECH, TEXT_TO_TEXT, WIDENED_WHEN_OPENED
from jisu.exporter.estimates.size_estimate import SizeEstimate, active_weights, shape_facts
from jisu.exporter.gate.opened_sizes import MAPPED_BYTES, OPEN_BYTES, PACKED
from jisu.exporter.gate.positions import PAST_BYTES, UNLIMITED
from jisu.exporter.gate.prompts import FAR
from jisu.exporter.graph.graph_pieces import PIECE_BYTES
from jisu.exporter.precision.half_precision import computed_half
from jisu.exporter.precision.precision import KEPT, MIXED, Int8MatmulFormat, WeightFormat, kernel_bits
from jisu.exporter.quantization.expected_costs import WINDOWS, can_observe
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.sensitivity import LAYER_FORMATS, split_windows
from jisu.exporter.quantization.spread_bits import between
from jisu.exporter.quantization.walked_layers import ROUNDED_BITS
from jisu.exporter.sources.half_width import largest_call
from jisu.exporter.sources.paged_weights import WATCHED, WINDOW, is_large
from jisu.exporter.sources.spans import attention_heads

if TYPE_CHECKING:
    from jisu.exporter.quantization.prepared import Prepared
    from jisu.exporter.sources.source import Source

# Python, torch, transformers and onnxruntime themselves; what tracing leaves behind.
_BASE_BYTES, _TRACED_BYTES = 420_000_000, 250_000_000
_READ_BYTES_PER_SECOND = 5e8
_LOADED_AT_ONCE, _TRIED_LAYERS = 4, 3
_IMPORT_SECONDS, _TRACE_SECONDS, _TRACE_SECONDS_PER_LAYER = 3.5, 2.5, 0.03
_WRITE_BYTES_PER_SECOND = 3e8
# Weights rounded to the nearest in a second by a core, with a search for each block's scale.
_ROUNDED_PER_SECOND = 4.5e7
# Tokens that the gate runs through the model or its source, and the runs of every calibration token.
_GATE_TOKENS, _QUALITY_TOKENS = 3500, 8000
_PRODUCT_RUNS, _SENSITIVITY_RUNS = 2.6, 12.0
# Layers are quantized once for every format, and once for every mixed precision that is tried; the first takes no GPTQ.
_CANDIDATES, _MIXES = 5, 2.5
# Where one walk rounds them in all formats, a backward pass costs two forwards. What is chosen is rounded again, and
# mixed precisions are tried on a few windows by the artifact and the source.
_BACKWARD_RUNS, _TRIES, _TRIED_RUNS = 3, 3, 0.5
# Logits of a window, their gradient, and what each is made from.
_PASS_LOGITS = 4
# Shares of the measured arithmetic that the model's own forward pass, the gate's many of them, and GPTQ reach.
_FORWARD_SHARE, _GATE_SHARE, _GPTQ_SHARE = 0.6, 0.75, 0.4
# Tokenizers, texts and files that the gate reads, whatever the model's size.
_GATE_SECONDS = 8.0
_MEASURED_SECONDS = 0.2
# Of the gate's logits: as many kept ones as it allows, and a call of up to 1,024 tokens within this limit.
_LOGITS_BYTES, _CALL_BYTES, _CALL_TOKENS = 160 << 20, 256 << 20, 1024
# Of an opened artifact, what the kernels hold of weights in longer blocks than these, whose scales and sums are few.
_PACKED_LONG_BLOCKS, _SHORT_BLOCK = 1.0, 32
# Of a limit of memory, what a stage is planned to take: estimates are not exact.
_PLANNED_SHARE = 0.9
# Outputs of the widest layer that are in memory at once, as a gate's, what it is multiplied with, and their product.
_WIDE_ROWS = 3
_FLOAT_BYTES = 4


@dataclass(frozen=True, kw_only=True)
class StageCost:
    """What a stage of the export will take: seconds of wall clock, and bytes of resident memory at its peak."""

    name: str
    seconds: float
    peak_bytes: int


def estimate_cost(
    source: Source,
    prepared: Prepared,
    size: SizeEstimate,
    *,
    limit: int | None = None,
    operations_per_second: float | None = None,
) -> tuple[StageCost, ...]:
    """The stages in their order.

    Args:
        size: see `exporter.estimates.size_estimate.estimate_size`.
        limit: bytes of memory that the export is allowed; None for no limit.
        operations_per_second: of this machine in float32; measured when None.
    """
    rate = operations_per_second or measure_arithmetic()
    weights, largest = source.weight_bytes, _largest(source)
    forward = 2 * active_weights(source) / (rate * _FORWARD_SHARE)  # seconds for a token
    # Threads of transformers load several weights at once, each of which is there twice for a moment.
    loading = min(1 + sum(4 * one.numel() == largest for one in source.module.parameters()), _LOADED_AT_ONCE)
    held, called = _held_bytes(source), _called_bytes(source, prepared)
    loaded = _BASE_BYTES + _TRACED_BYTES + held + called
    stages = [
        StageCost(
            name="load",
            seconds=_IMPORT_SECONDS + weights / _READ_BYTES_PER_SECOND,
            # Read where they lie, the first layers are tried with float32 weights beside.
            peak_bytes=_BASE_BYTES + held + (_TRIED_LAYERS * called if source.in_place else loading * largest),
        ),
        StageCost(
            name="trace",
            seconds=_TRACE_SECONDS + _TRACE_SECONDS_PER_LAYER * source.model.layers,
            peak_bytes=loaded + largest,
        ),
        *_quantization(source, prepared, size, forward=forward, rate=rate, loaded=loaded + 2 * largest),
        StageCost(
            name="optimize and write",
            seconds=1 + size.largest_bytes / _WRITE_BYTES_PER_SECOND,
            peak_bytes=loaded + 2 * largest,
        ),
    ]
    prove = StageCost(
        name="verify",
        seconds=_GATE_SECONDS + _gate_tokens(prepared) * forward * _FORWARD_SHARE / _GATE_SHARE,
        # The source reads everything first, then the artifact is opened.
        peak_bytes=_beside_bytes(source, prepared)
        + max(called, _opened_bytes(source, prepared, size, open_bytes=open_bytes_of(source, prepared, limit=limit))),
    )
    return (*stages, prove)


def open_bytes_of(source: Source, prepared: Prepared, *, limit: int | None) -> int:
    """Of the artifact's opened weights, those that the gate may have in memory at once.

    Args:
        limit: bytes of memory that the export is allowed: these weights get what everything else leaves of them. None
            for no limit.
    """
    if limit is None:
        return OPEN_BYTES
    return max(0, int(_PLANNED_SHARE * limit) - _beside_bytes(source, prepared))


def _beside_bytes(source: Source, prepared: Prepared) -> int:
    """Of the gate, without the artifact's weights."""
    logits = _LOGITS_BYTES + min(_CALL_BYTES, 4 * _CALL_TOKENS * source.model.vocab_size)
    checks = _asked_bytes(source, logits, _largest(source)) + _kept_bytes(source, _gate_tokens(prepared))
    return _BASE_BYTES + _TRACED_BYTES + _held_bytes(source) + checks


def _gate_tokens(prepared: Prepared) -> int:
    return _GATE_TOKENS + (_QUALITY_TOKENS if prepared.options.precision.budget.judges_quality else 0)


def _largest(source: Source) -> int:
    """Bytes of the largest weight in float32."""
    return max((4 * one.numel() for one in source.module.parameters()), default=0)


def _held_bytes(source: Source) -> int:
    """Of the source's weights, in memory at once."""
    return min(source.weight_bytes, WINDOW) if is_large(source) else source.weight_bytes


def _called_bytes(source: Source, prepared: Prepared) -> int:
    """Of a checkpoint that is read where it lies, the float32 weights of what is called."""
    reads = prepared.data is not None and prepared.options.precision.half is None  # ranges are those of the graph
    return largest_call(source.module, projection=reads) if source.in_place else 0


def _quantization(
    source: Source, prepared: Prepared, size: SizeEstimate, *, forward: float, rate: float, loaded: int
) -> list[StageCost]:
    from jisu.calibration.needs import sequential_needs
    from jisu.calibration.weights.row_pieces import count_cores

    choice, precision = prepared.choice, prepared.options.precision
    tokens = 0 if prepared.data is None else prepared.data.windows.ids.size
    parameters = source.weight_bytes / 4
    rounding = parameters / (_ROUNDED_PER_SECOND * count_cores())
    if choice.algorithm == "balanced":
        rounding += tokens * forward
    if precision.name in KEPT or (any(choice.formats.values()) and not choice.calibrated):
        return [StageCost(name="quantize", seconds=rounding, peak_bytes=loaded + _codes_bytes(source))]
    if precision.name != MIXED and not choice.calibrated:
        return []
    if any(isinstance(form, Int8MatmulFormat) for form in choice.formats.values()):
        seconds = rounding + _PRODUCT_RUNS * tokens * forward
        return [StageCost(name="quantize", seconds=seconds, peak_bytes=loaded + source.weight_bytes + 300_000_000)]
    facts = shape_facts(source)
    windows, length = prepared.data.windows.ids.shape if prepared.data is not None else (0, 0)
    if precision.name == MIXED:
        windows = len(split_windows(prepared.data)["statistics"]) if prepared.data is not None else 0
    needs_of = partial(
        sequential_needs,
        facts["groups"],
        layers=source.model.layers,
        windows=windows,
        length=length,
        width=facts["width"],
    )
    if precision.name != MIXED:
        needs = needs_of(formats=1 + max(map(len, between(source, choice).values()), default=0))
        passes = _backward_bytes(source, length) if choice.spread is not None and can_observe(source) else 0
        peak = loaded + max(needs.memory_bytes, passes) + _codes_bytes(source)
        return [StageCost(name="quantize", seconds=needs.seconds(rate * _GPTQ_SHARE), peak_bytes=peak)]
    needs = needs_of()
    gptq = needs.seconds(rate * _GPTQ_SHARE)
    peak = loaded + needs.memory_bytes + _codes_bytes(source)
    if prepared.walked and prepared.workers is None:
        formats = sum(LAYER_FORMATS[label].bits < ROUNDED_BITS for label in prepared.walked)
        walk = needs_of(formats=formats).seconds(rate * _GPTQ_SHARE) + _BACKWARD_RUNS * WINDOWS * length * forward
        passes = _backward_bytes(source, length)
        peak = loaded + max(needs.memory_bytes, passes) + (1 + formats) * _codes_bytes(source)
        tried = gptq + _TRIES * _TRIED_RUNS * tokens * forward
        return [
            StageCost(name="sensitivity", seconds=walk, peak_bytes=peak),
            StageCost(name="mix", seconds=tried, peak_bytes=peak + size.largest_bytes),
        ]
    measured = StageCost(
        name="sensitivity", seconds=_SENSITIVITY_RUNS * tokens * forward + _CANDIDATES * gptq, peak_bytes=peak
    )
    mix = StageCost(name="mix", seconds=_MIXES * gptq, peak_bytes=peak + size.largest_bytes)
    sensitivity = prepared.options.sensitivity
    return [mix] if sensitivity is not None and sensitivity.exists() else [measured, mix]


def _backward_bytes(source: Source, length: int) -> int:
    """Of a backward pass over a window: logits, and what layers hold; of those that are computed again, of one."""
    facts = shape_facts(source)
    held = sum(2 * group.rows + group.features for group in facts["groups"])
    layers = 1 if is_large(source) and not source.in_place else source.model.layers
    return int(_FLOAT_BYTES * length * (_PASS_LOGITS * source.model.vocab_size + layers * held))


def _asked_bytes(source: Source, logits: int, largest: int) -> int:
    """Of what the gate's checks hold at once beside the opened artifact: logits of texts, or a made past."""
    past = _past_bytes(source)
    # Large tables are read in pieces; what is read of them stays for a moment.
    return max(logits, past) + WATCHED if is_large(source) else logits + past + 2 * largest


def _opened_bytes(source: Source, prepared: Prepared, size: SizeEstimate, *, open_bytes: int) -> int:
    """Of an opened artifact: packed weights, or of half weights that stay in the file those at work, in float32."""
    half = prepared.options.precision.half is not None and computed_half(prepared.options.precision, size.target)
    stays = half and size.largest_bytes > WIDENED_WHEN_OPENED
    whole = size.largest_bytes
    if not stays:
        whole = int(_opened_share(prepared) * (size.largest_bytes + _widened_bytes(source, prepared)))
    # Its largest weight takes of the artifact what it takes of the source.
    piece = PIECE_BYTES + whole * _largest(source) // max(1, source.weight_bytes)
    if source.model_kind not in (SPEECH, TEXT_TO_TEXT):
        whole = min(whole, max(piece, min(open_bytes, MAPPED_BYTES) if stays else open_bytes))
    return whole + (_largest(source) + largest_call(source.module, projection=False) if stays else 0)


def _opened_share(prepared: Prepared) -> float:
    """Of an artifact's size, what a session takes that has packed its weights."""
    blocks = [size for form in prepared.choice.formats.values() if (size := getattr(form, "block_size", 0)) > 0]
    return _PACKED_LONG_BLOCKS if blocks and statistics.median(blocks) > _SHORT_BLOCK else PACKED


def _kept_bytes(source: Source, tokens: int) -> int:
    """Of what the source's layers gave for all texts, and of the longest one's state and call of the artifact."""
    facts = shape_facts(source)
    width = facts["width"] or 0
    widest = max((group.rows for group in facts["groups"]), default=0)
    scores = attention_heads(source.module) * FAR
    call = _FLOAT_BYTES * _CALL_TOKENS * (scores + _WIDE_ROWS * widest)
    return _FLOAT_BYTES * tokens * width + call + FAR * _state_bytes(source)


def _widened_bytes(source: Source, prepared: Prepared) -> int:
    """What codes of 5 to 7 bits take more when the artifact is opened; where text chooses them, of all layers."""
    forms, finer = prepared.choice.formats, between(source, prepared.choice)
    total = 0
    for matrix in matrices_of(source.module):
        form = max(finer.get(matrix.name, ()), key=lambda one: one.bits, default=forms.get(matrix.name))
        if isinstance(form, WeightFormat):
            total += matrix.elements * (kernel_bits(form.bits) - form.bits) // 8
    return total


def _codes_bytes(source: Source) -> int:
    """Of the integers of all weights, where they are in memory."""
    return 0 if is_large(source) else source.weight_bytes // 4


def _past_bytes(source: Source) -> int:
    """Of the made past of the model's whole range, as far as its configuration tells."""
    return min(PAST_BYTES, (source.model.max_positions or UNLIMITED) * _state_bytes(source))


def _state_bytes(source: Source) -> int:
    """Of the keys and values of a token."""
    config: Any = getattr(source.module, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    heads = getattr(text, "num_key_value_heads", None) or getattr(text, "num_attention_heads", None)
    size = getattr(text, "head_dim", None) or getattr(text, "hidden_size", 0) // (
        getattr(text, "num_attention_heads", None) or 1
    )
    if not isinstance(heads, int) or not isinstance(size, int):
        return 0
    return source.model.layers * 2 * heads * size * _FLOAT_BYTES


def measure_arithmetic() -> float:
    """Float32 operations a second of matrix products as large as a decoder's, on all cores that torch uses.

    The best of a few repetitions on one core, times the cores: on a machine with other work all of them are seldom free
    at once, even for the milliseconds that it takes.
    """
    import torch

    threads = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        return threads * _one_core()
    finally:
        torch.set_num_threads(threads)


def _one_core() -> float:
    import torch

    left, right = torch.randn(256, 1024), torch.randn(1024, 1024)
    operations = 2.0 * left.shape[0] * right.shape[0] * right.shape[1]
    best, begun = float("inf"), time.perf_counter()
    while time.perf_counter() - begun < _MEASURED_SECONDS:
        started = time.perf_counter()
        left @ right
        best = min(best, time.perf_counter() - started)
    return operations / best
