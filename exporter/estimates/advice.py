"""What a format buys on this machine: the artifact's own speed, and what the same model would do in other formats.

The artifact is run for a few tokens. What its products take is then replaced by what they would take in another format
(`exporter.estimates.matmul_speed`); everything else stays as it was measured.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import MODEL_KINDS, TIMINGS
from jisu.exporter.estimates.matmul_speed import (
    FLOAT,
    PREFILL_ROWS,
    Kind,
    in_other_kinds,
    measure_products,
    products_of,
)
from jisu.exporter.precision.precision import KEPT_FOLDER

if TYPE_CHECKING:
    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.contract.backend import Backend

TARGET = "ort-cpu"
_DECODE_STEPS = 8
_TABLE = Kind(operator="MatMulNBits", bits=8, block_size=32)
# What is compared, from the most faithful to the least; a format that loses to an earlier one is not worth having.
_KINDS = {
    "fp32": FLOAT,
    "int8": _TABLE,
    "w8a8-dynamic": Kind(operator="MatMulIntegerToFloat", bits=8, row_scales=True),
    "int4": Kind(operator="MatMulNBits", bits=4, block_size=32, zero_points=True),
}
_FAITHFUL = ("fp32", "fp16", "bf16", "int8", "gguf", "kept", "mixed", "w8a8-dynamic", "w8a8", "int4")
# Estimates by parts are off by some percent; a smaller gain is not worth a word, a smaller loss is none.
_CLEAR, _NO_SLOWER = 1.1, 0.97


@dataclass(frozen=True, kw_only=True)
class Rates:
    """Tokens per second, decoding alone and in a prefill."""

    decode: float
    prefill: float


@dataclass(frozen=True, kw_only=True)
class Advice:
    """The artifact's measured rates, and the estimated ones of other formats by name.

    Attributes:
        keeps_grid: its weights have the checkpoint's own integers, whatever the precision is called: they are as close
            to the source as kept ones.
    """

    precision: str
    measured: Rates
    others: Mapping[str, Rates]
    keeps_grid: bool = False

    def to_dict(self) -> dict[str, Any]:
        """Ready for ``timings.json``; tokens per second."""
        return asdict(self)

    def describe(self) -> list[str]:
        """Sentences: the gain over fp32, and which more faithful format would be no slower."""
        own, whole = self.measured, self.others.get("fp32")
        lines = []
        if whole is not None:
            lines.append(
                f"{self.precision} decodes {own.decode / whole.decode:.1f}x as fast as fp32 here and prefills "
                f"{own.prefill / whole.prefill:.1f}x as fast ({own.decode:.0f} and {own.prefill:.0f} tokens/s)."
            )
        else:
            lines.append(f"{self.precision} decodes {own.decode:.0f} and prefills {own.prefill:.0f} tokens/s here.")
        better = self._better()
        if better is not None:
            rates = self.others[better]
            lines.append(
                f"On this machine {better}, which is closer to the source, is no slower: it would decode "
                f"{rates.decode / own.decode:.1f}x and prefill {rates.prefill / own.prefill:.1f}x as fast. "
                f"Use --precision {better} unless the size matters most."
            )
        faster = [
            f"{name} would {' and '.join(gains)}"
            for name, rates in self.others.items()
            if name not in ("fp32", better) and (gains := _gains(own, rates))
        ]
        if faster:
            lines.append(f"For comparison: {', '.join(faster)}.")
        return lines

    def _better(self) -> str | None:
        """A more faithful format that loses nowhere and gains somewhere."""
        name = KEPT_FOLDER if self.keeps_grid else self.precision
        rank = _FAITHFUL.index(name) if name in _FAITHFUL else 0
        own = self.measured
        for name, rates in self.others.items():
            closer = name in _FAITHFUL[:rank]
            ratios = (rates.decode / own.decode, rates.prefill / own.prefill)
            if closer and min(ratios) >= _NO_SLOWER and max(ratios) >= _CLEAR:
                return name
        return None


def advise(artifact: Artifact, *, threads: int | None = None) -> Advice | None:
    """Measure for about two seconds; None for a target whose speed this machine says nothing of, or a model that does
    more, or something else, than continue a text.

    Raises:
        InputError: the artifact cannot be opened.
    """
    if artifact.manifest.target != TARGET or artifact.manifest.task != MODEL_KINDS[0]:
        return None
    from jisu.exporter.gate.open_candidate import open_candidate

    precision = artifact.manifest.precision
    keeps_grid = _keeps_grid(artifact.manifest.quantization)
    backend = open_candidate(artifact, TARGET, threads=threads)
    try:
        step, prefill = _run(backend, artifact)
    finally:
        backend.close()
    products = products_of(artifact.graph)
    measured = Rates(decode=1 / step, prefill=PREFILL_ROWS / prefill)
    if not products:
        return Advice(precision=precision, measured=measured, others={}, keeps_grid=keeps_grid)
    own = measure_products(products, threads=threads)
    rates = {}
    for name, others in in_other_kinds(products, _KINDS, table=_TABLE).items():
        if name == precision:
            continue
        speed = measure_products(others, threads=threads)
        # What is left beside the products is something, however noisy the two measurements are.
        rates[name] = Rates(
            decode=1 / (max(step - own.decode, 0.1 * step) + speed.decode),
            prefill=PREFILL_ROWS / (max(prefill - own.prefill, 0.1 * prefill) + speed.prefill),
        )
    return Advice(precision=precision, measured=measured, others=rates, keeps_grid=keeps_grid)


def advice_of(record: Mapping[str, Any]) -> Advice:
    """What `Advice.to_dict` gave; raises an ordinary error for anything else."""
    others = {name: Rates(**rates) for name, rates in record["others"].items()}
    return Advice(
        precision=str(record["precision"]),
        measured=Rates(**record["measured"]),
        others=others,
        keeps_grid=bool(record.get("keeps_grid", False)),
    )


def record_advice(artifact: Artifact, advice: Advice) -> None:
    """Add what was found to the artifact's ``timings.json``, which its manifest does not vouch for."""
    path = artifact.folder / TIMINGS
    timings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**timings, "advice": advice.to_dict()}, indent=2) + "\n", encoding="utf-8")


def _run(backend: Backend, artifact: Artifact) -> tuple[float, float]:
    """Median seconds of a decode step, and the least of a prefill of `PREFILL_ROWS` tokens."""
    import numpy as np

    model = artifact.manifest.model
    tokens = min(PREFILL_ROWS, (model.max_positions or PREFILL_ROWS + _DECODE_STEPS) - _DECODE_STEPS)
    ids = np.random.default_rng(0).integers(0, model.vocab_size, (1, tokens + _DECODE_STEPS))
    prefills, steps = [], []
    for _ in range(3):
        state = backend.new_state(1, tokens + _DECODE_STEPS)
        started = time.perf_counter()
        backend.forward(ids[:, :tokens], state)
        prefills.append((time.perf_counter() - started) * PREFILL_ROWS / tokens)
        for index in range(tokens, tokens + _DECODE_STEPS):
            started = time.perf_counter()
            backend.forward(ids[:, index : index + 1], state)
            steps.append(time.perf_counter() - started)
    return statistics.median(steps), min(prefills)


def _keeps_grid(record: Mapping[str, Any]) -> bool:
    """Whether what a manifest's record gives fewer than 8 bits lies on grids of the checkpoint's own, all of it."""
    formats = [entry["format"] for entry in record.get("formats", []) if entry["format"] is not None]
    few = [form for form in formats if form.get("bits", 8) < 8]
    return bool(few) and all("sums" in form for form in few)


def _gains(own: Rates, other: Rates) -> list[str]:
    gains = []
    for verb in ("decode", "prefill"):
        ratio = getattr(other, verb) / getattr(own, verb)
        if ratio >= _CLEAR:
            gains.append(f"{verb} {ratio:.1f}x as fast")
    return gains
