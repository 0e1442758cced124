"""The gate of a model that labels frames: the same recordings through the candidate and its source.

Whatever a candidate does ends in a verdict, as in `exporter.gate.run`.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.quality import kl_divergence
from jisu.exporter.gate.reference import stock_attention
from jisu.exporter.gate.result import Check, GateResult
from jisu.exporter.gate.run import Progress, run_check
from jisu.exporter.gate.speech import check_features
from jisu.exporter.precision.budget import Budget

if TYPE_CHECKING:
    from jisu.exporter.contract.speech_backend import FrameBackend
    from jisu.exporter.gate.recordings import Recording
    from jisu.exporter.sources.audio import AudioSource
    from jisu.exporter.sources.source import Source

Logits = npt.NDArray[np.float32]
# How far a recording in a batch may be from the same alone, in standard deviations of the logits. Normalization over
# time adds its sums in another order; a recording that reads another's frames is off by more than a tenth.
TOGETHER = 0.01
_UNIT = "sd of the logits"


@dataclass
class _Exam:
    """One candidate before its examiners, and what the source said so far."""

    backend: FrameBackend
    module: Any
    audio: AudioSource
    budget: Budget
    truths: dict[str, Logits] = field(default_factory=dict)
    nonfinite: int = 0

    def truth(self, recording: Recording) -> Logits:
        """The source's logits of a recording, float32 [frames, labels], computed once."""
        import torch

        if recording.name not in self.truths:
            features = torch.from_numpy(self.audio.features(recording.samples))
            with stock_attention(self.module) as module:
                logits = module(**{self.audio.settings.input_name: features}).logits[0]
            self.truths[recording.name] = logits.float().numpy()
        return self.truths[recording.name]

    def candidate(self, recordings: Sequence[Recording]) -> Logits:
        """The candidate's logits of recordings of one length in one call, float32 [B, frames, labels]."""
        features = [self.backend.features(self.audio.filled(recording.samples)) for recording in recordings]
        logits = self.backend.frame_logits(features)
        self.nonfinite += int((~np.isfinite(logits)).sum())
        return logits


def run_frame_gate(
    backend: FrameBackend,
    source: Source,
    audio: AudioSource,
    *,
    recordings: Sequence[Recording],
    budget: Budget,
    tokenizer_check: Callable[[], Sequence[Check]] | None = None,
    progress: Progress | None = None,
) -> GateResult:
    """Judge a candidate; arguments and result are those of `exporter.gate.run.run_gate`."""
    exam = _Exam(backend=backend, module=source.module, audio=audio, budget=budget)
    steps: list[tuple[str, Callable[[], Check | list[Check]]]] = [
        ("features", partial(check_features, backend, audio, recordings))
    ]
    steps += [(f"recording-{one.name}", partial(_check_recording, exam, one)) for one in recordings]
    steps.append(("batch-2", partial(_check_batch, exam, recordings)))
    steps.append(("labels", partial(_check_labels, exam, recordings)))
    if tokenizer_check is not None:
        steps.append(("tokenizer", lambda: list(tokenizer_check())))
    checks: list[Check] = []
    for index, (name, ask) in enumerate(steps):
        if progress:
            progress(name, index, len(steps))
        checks.extend(run_check(name, ask))
    detail = "Every logit is finite." if not exam.nonfinite else f"{exam.nonfinite} logits are not finite."
    finite = Check(
        name="finite", passed=not exam.nonfinite, value=exam.nonfinite, limit=0, unit="logits", detail=detail
    )
    description = f"{type(source.module).__name__}, each recording at once; {len(recordings)} made by the gate"
    return GateResult(checks=(finite, *checks), reference=description)


def _distance(truth: Logits, other: Logits) -> float:
    """max |other - truth| in standard deviations of the truth; NaN where something is not finite."""
    if truth.shape != other.shape:
        raise ValueError(f"logits of shape {list(other.shape)} where {list(truth.shape)} is expected")
    scale = max(float(truth.astype(np.float64).std()), 1e-6)
    return float(np.abs(other.astype(np.float64) - truth).max()) / scale


def _check_recording(exam: _Exam, recording: Recording) -> Check:
    """One recording in one call, at every frame."""
    truth, logits = exam.truth(recording), exam.candidate([recording])[0]
    error, budget = _distance(truth, logits), exam.budget
    limit: float | None = budget.max_logit_error
    unit = _UNIT
    if limit is None:
        with np.errstate(invalid="ignore", over="ignore"):
            error = float(np.mean(kl_divergence(truth, logits))) if np.isfinite(logits).all() else float("nan")
        limit, unit = budget.max_check_kl or 0.0, "nats"
    detail = f"{len(truth)} frames of {recording.name}, {error:.3g} {unit}."
    name, passed = f"recording-{recording.name}", bool(error <= limit)
    return Check(name=name, passed=passed, value=error, limit=limit, unit=unit, detail=detail)


def _check_batch(exam: _Exam, recordings: Sequence[Recording]) -> Check:
    """Two recordings of one length in one call: neither may change the other."""

    shortest = min(len(recordings[0].samples), len(recordings[1].samples))
    pair = [replace(one, samples=one.samples[:shortest]) for one in recordings[:2]]
    alone = [exam.candidate([one])[0] for one in pair]
    together = exam.candidate(pair)
    worst = max(_distance(own, row) for own, row in zip(alone, together, strict=True))
    detail = f"{pair[0].name} and {pair[1].name} in one call, {worst:.3g} {_UNIT} from each alone."
    passed = bool(worst <= TOGETHER)
    return Check(name="batch-2", passed=passed, value=worst, limit=TOGETHER, unit=_UNIT, detail=detail)


def _check_labels(exam: _Exam, recordings: Sequence[Recording]) -> list[Check]:
    """The likeliest label of every frame: the same in fp32, near ties excepted; else as often as the budget says."""
    truth = np.concatenate([exam.truth(one) for one in recordings])
    logits = np.concatenate([exam.candidate([one])[0] for one in recordings])
    agreed = truth.argmax(axis=1) == logits.argmax(axis=1)
    frames, budget = len(truth), exam.budget
    if budget.max_logit_error is not None:
        best = np.sort(truth.astype(np.float64), axis=1)
        near = (best[:, -1] - best[:, -2]) <= 2 * budget.max_logit_error * float(truth.std())
        wrong = int((~(agreed | near)).sum())
        detail = f"{wrong} of {frames} frames have another label; {int((~agreed & near).sum())} near ties."
        return [Check(name="labels", passed=not wrong, value=wrong, limit=0, unit="frames", detail=detail)]
    with np.errstate(invalid="ignore", over="ignore"):
        kl = float(np.mean(kl_divergence(truth, logits))) if np.isfinite(logits).all() else float("nan")
    share, least = float(agreed.mean()), budget.min_top1 or 0.0
    most = np.inf if budget.max_mean_kl is None else budget.max_mean_kl
    return [
        Check(
            name="mean-kl",
            passed=bool(kl <= most),
            value=kl,
            limit=budget.max_mean_kl,
            unit="nats",
            detail=f"mean-kl over the labels is {kl:.4g} on {frames} frames.",
        ),
        Check(
            name="top-1",
            passed=bool(share >= least),
            value=share,
            limit=budget.min_top1,
            unit="share",
            detail=f"The same label for {share:.4g} of {frames} frames.",
        ),
    ]
