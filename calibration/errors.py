"""The errors that text, statistics or settings given by a user can cause.

Each says in four parts what failed, what was received, what is allowed and what to do; the parts are kept apart so that
a caller with error classes of its own can build its own sentence from them.
"""

from __future__ import annotations


class CalibrationError(ValueError):
    """Bad input to calibration.

    Attributes:
        failed: what failed, one sentence without its full stop.
        received: what was found instead of what was needed.
        allowed: what would have been accepted.
        fix: the next step, an imperative sentence.
    """

    def __init__(self, failed: str, *, received: object, allowed: object, fix: str) -> None:
        self.failed, self.received, self.allowed, self.fix = failed, received, allowed, fix
        parts = (failed, f"Received: {received}", f"Allowed: {allowed}", fix)
        super().__init__(" ".join(part if part.endswith((".", "!", "?")) else f"{part}." for part in parts))


class FormatError(CalibrationError):
    """A quantized format that does not exist or does not fit the matrix."""


class TextError(CalibrationError):
    """Calibration text that cannot be read or is too short."""


class ActivationError(CalibrationError):
    """Activations that no scale can be found for; names the layer."""


class StatisticsError(CalibrationError):
    """Stored statistics that are damaged, incomplete, or of another model, text or setting."""


class MissingPackageError(CalibrationError):
    """A package that one kind of input needs is not installed."""

    def __init__(self, package: str, *, needed_for: str) -> None:
        super().__init__(
            f"{needed_for} needs the package {package}",
            received="an environment without it",
            allowed=f"an environment with {package}",
            fix=f"Install it with: pip install {package}",
        )
