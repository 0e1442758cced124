"""What is shown of models that read images beside texts: as of any that writes a text, and how fast images are read."""

from __future__ import annotations

from jisu.benchmarks.report.column import Column
from jisu.benchmarks.report.generating_kinds import GENERATION
from jisu.benchmarks.report.reported_kind import ReportedKind, measured


def _speeds(short: str, long: str) -> list[Column]:
    return [
        measured("decode", short, "decode_tokens_per_s", unit="tok/s"),
        measured("images", short, "images_per_s", unit="images/s"),
        measured("first token, with an image", short, "time_to_first_token_s", unit="ms", better="low"),
    ]


_WITHOUT = ("prefill", "read per token", "reading", "of the bandwidth")
SEEING = ReportedKind(
    **{
        **vars(GENERATION),
        "speeds": _speeds,
        "measured_on": lambda short, long: f"All on {short}",
        "workload": (("", "images", "images"), *GENERATION.workload),
        # How many tokens an image becomes is the model's own.
        "of_workload": (
            ("images", "images/s", "high", ("images_per_s",)),
            *(column for column in GENERATION.of_workload if column[0] not in _WITHOUT),
        ),
    }
)
