"""How fast an artifact runs on this machine: what the engine itself does for about two seconds, with the spread.

It says nothing of formats that were not exported: the speed of their matmuls alone misses large pages, caches and
whatever else a decode step does, and two such forecasts contradicted each other. `jisu compare` measures several.
"""

from __future__ import annotations

import json
import statistics
import time
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import MODEL_KINDS, TIMINGS

if TYPE_CHECKING:
    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.contract.backend import Backend

TARGET = "ort-cpu"
PREFILL_ROWS = 64
_DECODE_STEPS, _RUNS = 8, 5


@dataclass(frozen=True, kw_only=True)
class Rate:
    """Tokens per second: the median, and between which two of the measured ones half of them lie."""

    median: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.median:.0f} ({self.low:.0f} to {self.high:.0f})"


@dataclass(frozen=True, kw_only=True)
class Advice:
    """An artifact's measured rates, decoding alone and in a prefill."""

    precision: str
    decode: Rate
    prefill: Rate

    def to_dict(self) -> dict[str, Any]:
        """Ready for ``timings.json``; tokens per second."""
        return asdict(self)

    def describe(self) -> list[str]:
        """What was measured, and how to compare it with other formats."""
        return [
            f"{self.precision} decodes {self.decode} and prefills {self.prefill} tokens/s here, in parentheses the "
            "middle half of the measurements. `jisu compare` measures precisions side by side."
        ]


def can_be_measured(artifact: Artifact) -> bool:
    """Whether the artifact is for this kind of machine, and continues a text."""
    return artifact.manifest.target == TARGET and artifact.manifest.model_kind == MODEL_KINDS[0]


def advise(artifact: Artifact, *, threads: int | None = None) -> Advice | None:
    """Measure for about two seconds; None for a target whose speed this machine says nothing of, or a model that does
    more, or something else, than continue a text.

    Raises:
        InputError: the artifact cannot be opened.
    """
    if not can_be_measured(artifact):
        return None
    from jisu.exporter.gate.open_candidate import open_candidate

    backend = open_candidate(artifact, TARGET, threads=threads)
    try:
        steps, prefills = _run(backend, artifact)
    finally:
        backend.close()
    return Advice(
        precision=artifact.manifest.precision,
        decode=_rate([1 / seconds for seconds in steps]),
        prefill=_rate([PREFILL_ROWS / seconds for seconds in prefills]),
    )


def advice_of(record: Mapping[str, Any]) -> Advice:
    """What `Advice.to_dict` gave; raises an ordinary error for anything else."""
    return Advice(
        precision=str(record["precision"]), decode=Rate(**record["decode"]), prefill=Rate(**record["prefill"])
    )


def record_advice(artifact: Artifact, advice: Advice) -> None:
    """Add what was measured to the artifact's ``timings.json``, which its manifest does not vouch for."""
    path = artifact.folder / TIMINGS
    timings = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps({**timings, "advice": advice.to_dict()}, indent=2) + "\n", encoding="utf-8")


def _run(backend: Backend, artifact: Artifact) -> tuple[list[float], list[float]]:
    """Seconds of each decode step, and of each prefill for `PREFILL_ROWS` tokens; the first round warms up."""
    import numpy as np

    model = artifact.manifest.model
    tokens = min(PREFILL_ROWS, (model.max_positions or PREFILL_ROWS + _DECODE_STEPS) - _DECODE_STEPS)
    ids = np.random.default_rng(0).integers(0, model.vocab_size, (1, tokens + _DECODE_STEPS))
    prefills, steps = [], []
    for _ in range(1 + _RUNS):
        state = backend.new_state(1, tokens + _DECODE_STEPS)
        started = time.perf_counter()
        backend.forward(ids[:, :tokens], state)
        prefills.append((time.perf_counter() - started) * PREFILL_ROWS / tokens)
        for index in range(tokens, tokens + _DECODE_STEPS):
            started = time.perf_counter()
            backend.forward(ids[:, index : index + 1], state)
            steps.append(time.perf_counter() - started)
    return steps[_DECODE_STEPS:], prefills[1:]


def _rate(rates: Sequence[float]) -> Rate:
    low, median, high = statistics.quantiles(rates, n=4, method="inclusive")
    return Rate(median=median, low=low, high=high)
