"""From the seconds of every step to a row's figures, each with its spread."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from jisu.benchmarks.compare.memory_traffic import state_bytes
from jisu.benchmarks.compare.rounds import Outcome
from jisu.benchmarks.compare.summary import percentile, summarize
from jisu.benchmarks.compare.workloads import Workload

PERCENTILES = {"p50": 0.5, "p90": 0.9, "p99": 0.99}
# Shares of all steps, for the plot of their distribution.
QUANTILES = (0.0, 0.01, 0.05, 0.1, 0.25, 0.5, 0.75, 0.9, 0.95, 0.99, 1.0)


def workload_figures(
    outcome: Outcome, workload: Workload, *, weights: float | None, bandwidth: float | None
) -> dict[str, Any]:
    """The figures of one contestant on one workload, or why there are none.

    Args:
        weights: bytes of weights that a decode step reads.
        bandwidth: bytes per second that this machine reads.
    """
    if workload.name in outcome.unsupported:
        return {"unsupported": outcome.unsupported[workload.name]}
    answers = outcome.trials[workload.name]
    if workload.calls:
        return _call_figures(answers, workload)
    if workload.hears:
        return _sound_figures(answers, workload)
    trials = [answer["step_seconds"] for answer in answers]
    pooled = [step for steps in trials for step in steps[1:]]
    figures: dict[str, Any] = {
        "time_to_first_token_s": _summary([steps[0] for steps in trials]),
        **{key: _summary(values) for key, values in trial_speeds(answers, workload).items()},
        "end_to_end_s": _summary([sum(steps) for steps in trials]),
        "inter_token_s": {
            name: _summary([percentile(steps[1:], share) for steps in trials]) for name, share in PERCENTILES.items()
        },
        "inter_token_quantiles_s": [[share, percentile(pooled, share)] for share in QUANTILES],
        "joules_per_token": _energy(answers, per=workload.batch * workload.new_tokens),
    }
    if "encode_seconds" in answers[0]:
        figures["encode_s"] = _summary([answer["encode_seconds"] for answer in answers])
    if workload.shown:  # how many tokens an image or a recording becomes is the model's own
        return figures
    return {**figures, **_traffic(outcome, workload, figures["decode_tokens_per_s"]["median"], weights, bandwidth)}


def trial_speeds(answers: Sequence[dict[str, Any]], workload: Workload) -> dict[str, list[float]]:
    """What a contestant does in a second in each trial: texts of a classifier, or tokens read and tokens made."""
    trials = [answer["step_seconds"] for answer in answers]
    if workload.calls:
        texts = workload.batch * workload.calls
        return {"texts_per_s": [texts / sum(steps) for steps in trials]}
    if workload.hears:
        return {"sound_per_s": [sum(answer["sound_seconds"]) / sum(answer["step_seconds"]) for answer in answers]}
    read, decoded = workload.batch * workload.prompt_tokens, workload.batch * (workload.new_tokens - 1)
    if workload.shown:
        speeds = {"decode_tokens_per_s": [decoded / sum(steps[1:]) for steps in trials]}
        if workload.images:
            return {**speeds, "images_per_s": [workload.images / answer["encode_seconds"] for answer in answers]}
        return {**speeds, "heard_per_s": [sum(one["sound_seconds"]) / one["encode_seconds"] for one in answers]}
    return {
        "prefill_tokens_per_s": [read / steps[0] for steps in trials],
        "decode_tokens_per_s": [decoded / sum(steps[1:]) for steps in trials],
    }


def _call_figures(answers: Sequence[dict[str, Any]], workload: Workload) -> dict[str, Any]:
    """A classifier's: texts per second, and how long a call with all rows takes."""
    trials = [answer["step_seconds"] for answer in answers]
    pooled = [seconds for trial in trials for seconds in trial]
    texts = workload.batch * workload.calls
    return {
        **{key: _summary(values) for key, values in trial_speeds(answers, workload).items()},
        "latency_s": {
            name: _summary([percentile(trial, share) for trial in trials]) for name, share in PERCENTILES.items()
        },
        "latency_quantiles_s": [[share, percentile(pooled, share)] for share in QUANTILES],
        "joules_per_text": _energy(answers, per=texts),
    }


def _sound_figures(answers: Sequence[dict[str, Any]], workload: Workload) -> dict[str, Any]:
    """Of a model that hears: seconds of sound in a second and the other way around, and how long a recording takes."""
    trials = [answer["step_seconds"] for answer in answers]
    pooled = [seconds for trial in trials for seconds in trial]
    speeds = trial_speeds(answers, workload)
    joules = [answer["joules"] for answer in answers]
    sound = [sum(answer["sound_seconds"]) for answer in answers]
    known = all(value is not None for value in joules)
    return {
        **{key: _summary(values) for key, values in speeds.items()},
        "real_time_factor": _summary([1 / speed for speed in speeds["sound_per_s"]]),
        "latency_s": {
            name: _summary([percentile(trial, share) for trial in trials]) for name, share in PERCENTILES.items()
        },
        "latency_quantiles_s": [[share, percentile(pooled, share)] for share in QUANTILES],
        "joules_per_sound_s": _summary([a / b for a, b in zip(joules, sound, strict=True)]) if known else None,
    }


def memory_figures(outcome: Outcome) -> dict[str, Any]:
    """Resident memory of the process, now and at most, up to its last trial; GPU memory, of which there is none yet."""
    answers = [answer for trials in outcome.trials.values() for answer in trials]
    return {
        "peak_bytes": max((answer["peak_bytes"] for answer in answers), default=None),
        "resident_bytes": answers[-1]["resident_bytes"] if answers else None,
        "gpu_bytes": None,
    }


def _traffic(
    outcome: Outcome, workload: Workload, rate: float, weights: float | None, bandwidth: float | None
) -> dict[str, Any]:
    """Bytes that a step reads, over the tokens it makes; and how near that comes to what the memory can give."""
    artifact = outcome.contestant.artifact
    if artifact is None or weights is None:
        return {"bytes_per_token": None, "gb_per_s": None, "share_of_bandwidth": None}
    prompt, length = workload.prompt_tokens, workload.new_tokens / 2
    encoded = bool(artifact.manifest.signature.encoded)
    sizes = {"length": length, "source": prompt} if encoded else {"length": prompt + length}
    read = (weights + state_bytes(artifact, batch=workload.batch, **sizes)) / workload.batch
    return {
        "bytes_per_token": read,
        "gb_per_s": read * rate / 1e9,
        "share_of_bandwidth": read * rate / bandwidth if bandwidth else None,
    }


def _energy(answers: Sequence[dict[str, Any]], *, per: int) -> dict[str, Any] | None:
    """Joules for each new token, the prompt's included, or text; None where the machine does not tell.

    Args:
        per: so many of them a trial.
    """
    joules = [answer["joules"] for answer in answers]
    if any(value is None for value in joules):
        return None
    return _summary([value / per for value in joules])


def _summary(values: Sequence[float]) -> dict[str, Any]:
    return summarize(values).to_dict()
