"""What is shown of models that write a text: after another, about another, or about what is shown."""

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


def _decode(short: str, long: str) -> Column:
    return measured("decode", short, "decode_tokens_per_s", unit="tok/s")


def _first_token(short: str) -> Column:
    return measured("first token", short, "time_to_first_token_s", unit="ms", better="low")


def _speeds(short: str, long: str) -> list[Column]:
    """An answer's speed and a long prompt's."""
    prefill = measured("prefill", long, "prefill_tokens_per_s", unit="tok/s")
    return [_decode(short, long), prefill, _first_token(short)]


def _speeds_with_encoder(short: str, long: str) -> list[Column]:
    decode, prefill, first = _speeds(short, long)
    return [decode, prefill, measured("encode", short, "encode_s", unit="ms", better="low"), first]


def _closeness(quality: Path) -> list[Column]:
    # Lower than the source's is not closer to it.
    ratio = Column(title="perplexity over the source's", path=(*quality, "perplexity_ratio"), better="one")
    return [*divergence_columns(quality), agreement(quality), ratio]


GENERATION = ReportedKind(
    speeds=_speeds,
    speed=_decode,
    closeness=_closeness,
    drawn=lambda quality: [divergence(quality)],
    measured_on=lambda short, long: f"Decode and first token on {short}, prefill on {long}",
    workload=(("", "prompt_tokens", "prompt tokens"), ("", "new_tokens", "new"), ("batch", "batch", "")),
    steps=("inter_token_quantiles_s", "token"),
    of_workload=(
        ("decode", "tok/s", "high", ("decode_tokens_per_s",)),
        ("prefill", "tok/s", "high", ("prefill_tokens_per_s",)),
        ("encode", "ms", "low", ("encode_s",)),
        ("first token", "ms", "low", ("time_to_first_token_s",)),
        ("token p50", "ms", "low", ("inter_token_s", "p50")),
        ("token p90", "ms", "low", ("inter_token_s", "p90")),
        ("token p99", "ms", "low", ("inter_token_s", "p99")),
        ("end to end", "s", "low", ("end_to_end_s",)),
        ("read per token", "MB", "low", ("bytes_per_token",)),
        ("reading", "GB/s", None, ("gb_per_s",)),
        ("of the bandwidth", "%", None, ("share_of_bandwidth",)),
        ("energy per token", "J", "low", ("joules_per_token",)),
    ),
    of_set=(
        ("mean KL", "nats", "low", "mean_kl"),
        ("p99 KL", "nats", "low", "p99_kl"),
        ("top-1", "%", "high", "top1"),
        ("near ties", "", None, "near_ties"),
        ("perplexity", "", None, "perplexity"),
        ("over the source's", "", "one", "perplexity_ratio"),
        ("confident changes", "%", "low", "confident_changes"),
        ("tokens", "", None, "tokens"),
        ("texts", "", None, "texts"),
    ),
    limits=DIVERGENCE_LIMITS | {"max_perplexity_ratio"},
    predictions="tokens",
)
TEXT_TO_TEXT = ReportedKind(**{**vars(GENERATION), "speeds": _speeds_with_encoder})
