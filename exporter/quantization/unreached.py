"""Experts to which a router sent no token of the calibration text: they are rounded without data, and that is said."""

from __future__ import annotations

from collections.abc import Sequence

_SHOWN = 3  # names in a sentence


def describe_unreached(names: Sequence[str]) -> str:
    """The experts whose matrices these are, in a sentence without its full stop.

    Args:
        names: module paths of matrices, ``....experts.3.down_proj``.
    """
    experts = list(dict.fromkeys(name.rpartition(".")[0] for name in names))
    shown = ", ".join(experts[:_SHOWN])
    more = f" and {len(experts) - _SHOWN} more" if len(experts) > _SHOWN else ""
    count = "1 expert" if len(experts) == 1 else f"{len(experts)} experts"
    rounded = "it is rounded without data" if len(experts) == 1 else "they are rounded without data"
    return f"The calibration text sent no token to {count} ({shown}{more}): {rounded}"
