"""What a user wants a model to be calibrated on: the built-in mixture, texts, both, or a folder of statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jisu.exporter.contract.errors import InputError

# The word for the built-in mixture, among the names of files; a file of that name is ./mixture.
MIXTURE = "mixture"


@dataclass(frozen=True, kw_only=True)
class CalibrationTexts:
    """What to calibrate on.

    Attributes:
        files: texts, or one folder of statistics.
        mixture: whether the built-in mixture is taken, beside the files or alone.
        field: the column or key that holds the text of a CSV, JSONL or dataset.
    """

    files: tuple[Path, ...] = ()
    mixture: bool = True
    field: str = "text"

    @property
    def statistics(self) -> Path | None:
        """The folder of statistics, when that is what was given."""
        from jisu.calibration.statistics.statistics import has_statistics

        return next((path for path in self.files if has_statistics(path)), None)

    @property
    def words(self) -> str:
        """As the user wrote it."""
        return " ".join([*([MIXTURE] if self.mixture else []), *map(str, self.files)])


def calibration_texts(
    requested: str | Path | Sequence[str | Path] | None, *, field: str = "text", option: str = "--calibration"
) -> CalibrationTexts:
    """Read what was asked for: nothing means the mixture, files replace it, and `MIXTURE` among them adds it.

    Raises:
        InputError: a folder of statistics beside anything else, or the same text twice.
    """
    names = [requested] if isinstance(requested, (str, Path)) else list(requested or ())
    files = tuple(Path(name) for name in names if str(name) != MIXTURE)
    texts = CalibrationTexts(files=files, mixture=len(files) < len(names) or not files, field=field)
    if len(set(names)) < len(names):
        raise InputError(
            "The same calibration text is given twice",
            received=f"{option} {texts.words}",
            allowed="each text once",
            fix="Leave one of them out.",
        )
    if texts.statistics is not None and len(names) > 1:
        raise InputError(
            "A folder of statistics cannot be combined with other calibration texts",
            received=f"{option} {texts.words}",
            allowed=f"the folder alone, or texts and {MIXTURE}",
            fix="Leave the others out, or collect statistics of all of them with `jisu calibrate`.",
        )
    return texts
