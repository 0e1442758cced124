"""Whether a text that is calibrated on has passages of the one that quality is measured on."""

from __future__ import annotations

from collections.abc import Sequence

from jisu.exporter.contract.errors import InputError

# A passage of this many characters in both texts is no coincidence.
PASSAGE = 200
_LONG_WINDOW = 150


def shared_passages(calibration: str, evaluation: str) -> tuple[list[str], int]:
    """Passages of the evaluation text that stand in the calibration text, and how many were looked for.

    They are taken at regular places, so that a copied file, a part of it and a file with both are found.
    """
    step = max(PASSAGE, len(evaluation) // 200)
    passages = [evaluation[start : start + PASSAGE] for start in range(0, len(evaluation), step)]
    return [passage for passage in passages if passage.strip() and passage in calibration], len(passages)


def refuse_shared_text(calibration: str, evaluation: str, *, origin: str) -> None:
    """Raise InputError when a passage of the evaluation text stands in the calibration text."""
    shared, passages = shared_passages(calibration, evaluation)
    if shared:
        raise InputError(
            "The model would be calibrated on the text that its quality is measured with",
            received=f"{origin}, which has {len(shared)} of {passages} passages of the evaluation text, such as "
            f"{shared[0][:60]!r}",
            allowed="two texts without a common passage",
            fix="Choose another text to calibrate with, or another --evaluation.",
        )


def refuse_shared_windows(windows: Sequence[str], evaluation: str, *, origin: str) -> None:
    """Raise InputError for windows out of the evaluation text: one long one, or a quarter of short ones.

    Two texts on one matter have a phrase of a hundred characters in common now and then.
    """
    shared = [window for window in windows if window.strip() and window in evaluation]
    if any(len(window) >= _LONG_WINDOW for window in shared) or 4 * len(shared) > len(windows):
        raise InputError(
            "The model would be calibrated on the text that its quality is measured with",
            received=f"{origin}, with {len(shared)} of {len(windows)} windows from the evaluation text, such as "
            f"{shared[0][:60]!r}",
            allowed="two texts without a common passage",
            fix="Choose another text to calibrate with, or another --evaluation.",
        )
