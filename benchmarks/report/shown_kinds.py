"""What is shown of models that read images or recordings beside texts: as of any that writes a text, and how fast.

How fast images are read, and how many seconds of sound are heard in one, is the time before the decoder's first token.
"""

from __future__ import annotations

from jisu.benchmarks.report.column import Column
from jisu.benchmarks.report.generating_kinds import GENERATION
from jisu.benchmarks.report.reported_kind import ReportedKind, measured

# How many tokens an image or a recording becomes is the model's own.
_WITHOUT = ("prefill", "read per token", "reading", "of the bandwidth")


def _kind(noun: str, key: str, unit: str) -> ReportedKind:
    """The kind of models whose workloads have so many ``noun`` in them.

    Args:
        key: of a workload's figures: how fast these are read, in ``unit``.
    """

    def speeds(short: str, long: str) -> list[Column]:
        return [
            measured("decode", short, "decode_tokens_per_s", unit="tok/s"),
            measured(noun, short, key, unit=unit),
            measured(f"first token, with {_ARTICLES[noun]}", short, "time_to_first_token_s", unit="ms", better="low"),
        ]

    return ReportedKind(
        **{
            **vars(GENERATION),
            "speeds": speeds,
            "measured_on": lambda short, long: f"All on {short}",
            "workload": (("", noun, noun), *GENERATION.workload),
            "of_workload": (
                (noun, unit, "high", (key,)),
                *(column for column in GENERATION.of_workload if column[0] not in _WITHOUT),
            ),
        }
    )


_ARTICLES = {"images": "an image", "recordings": "a recording"}
IMAGES = _kind("images", "images_per_s", "images/s")
RECORDINGS = _kind("recordings", "heard_per_s", "s of sound/s")
