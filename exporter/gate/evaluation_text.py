"""The text that quality is measured on: a file of the user's, or the built-in texts that calibration never sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.placeholders import refuse_placeholders


@dataclass(frozen=True, kw_only=True)
class EvaluationText:
    """Held-out text; ``path`` and ``sha256`` are None for the default."""

    text: str
    path: str | None
    sha256: str | None

    @property
    def requested(self) -> str | None:
        """The text when it is the user's own."""
        return None if self.path is None else self.text

    def to_record(self) -> dict[str, str]:
        if self.path is None or self.sha256 is None:
            return {}
        return {"text": Path(self.path).name, "text_sha256": self.sha256}


def read_evaluation_text(path: str | Path | None, *, field: str = "text") -> EvaluationText:
    """Read the text that quality is measured on.

    Args:
        path: plain text, JSONL, CSV or a dataset's folder; None for the default.
        field: the column or key that holds the text.

    Raises:
        InputError: the text cannot be used.
    """
    from jisu.calibration.errors import CalibrationError
    from jisu.calibration.text.text import read_text
    from jisu.exporter.gate.domains import held_out_text

    if path is None:
        return EvaluationText(text=held_out_text(), path=None, sha256=None)
    refuse_placeholders(Path(path))
    try:
        content = read_text(path, field=field)
    except CalibrationError as error:
        failed = error.failed.replace("calibration text", "evaluation text")
        raise InputError(failed, received=error.received, allowed=error.allowed, fix=error.fix) from error
    return EvaluationText(text=content.text, path=str(path), sha256=content.sha256)
