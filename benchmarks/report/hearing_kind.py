"""What is shown of models that write down what they hear."""

from __future__ import annotations

from jisu.benchmarks.report.column import Column
from jisu.benchmarks.report.reported_kind import (
    DIVERGENCE_LIMITS,
    Path,
    ReportedKind,
    agreement,
    divergence,
    divergence_columns,
    measured,
)

_NOUN = "recording"
SAME_WORDS = Column(title="same words", path=("quality", "transcripts", "same_words"), unit="%", better="high")


def _speed(short: str, long: str) -> Column:
    return measured("speed", short, "sound_per_s", unit="s of sound/s")


def _speeds(short: str, long: str) -> list[Column]:
    """Seconds of work for a second of sound, of recordings by themselves and of all in one; and of one of them."""
    both = [measured("real-time factor", short, "real_time_factor", unit="", better="low")]
    if long != short:
        both.append(measured("real-time factor, long", long, "real_time_factor", unit="", better="low"))
    return [*both, measured("latency", short, "latency_s", "p50", unit="ms", better="low")]


def _closeness(quality: Path) -> list[Column]:
    return [SAME_WORDS, *divergence_columns(quality, _NOUN), agreement(quality, noun=_NOUN)]


HEARING = ReportedKind(
    speeds=_speeds,
    speed=_speed,
    closeness=_closeness,
    drawn=lambda quality: [divergence(quality, _NOUN), SAME_WORDS],
    measured_on=lambda short, long: f"Speed and latency on {short}" + (f" and on {long}" if long != short else ""),
    workload=(("", "hears", ""),),
    steps=("latency_quantiles_s", "recording"),
    of_workload=(
        ("real-time factor", "", "low", ("real_time_factor",)),
        ("speed", "s of sound/s", "high", ("sound_per_s",)),
        ("latency p50", "ms", "low", ("latency_s", "p50")),
        ("latency p90", "ms", "low", ("latency_s", "p90")),
        ("latency p99", "ms", "low", ("latency_s", "p99")),
        ("energy per second of sound", "J", "low", ("joules_per_sound_s",)),
    ),
    of_set=(
        ("words", "", None, "words"),
        ("wrong words", "", "low", "wrong_words"),
        ("mean KL", "nats", "low", "mean_kl"),
        ("top-1", "%", "high", "top1"),
        ("tokens", "", None, "tokens"),
    ),
    limits=DIVERGENCE_LIMITS | {"min_same_words"},
    predictions="words that were said",
)
