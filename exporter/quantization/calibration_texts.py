"""What a user wants a model to be calibrated on: the built-in mixture, texts, both, or a folder of statistics."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jisu.exporter.contract.errors import InputError

# Words among the names of files: the built-in mixture, and no text. A file of such a name is ./mixture or ./none.
MIXTURE, NONE = "mixture", "none"


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
    def nothing(self) -> bool:
        """Whether no text is to be used at all."""
        return not self.mixture and not self.files

    @property
    def words(self) -> str:
        """As the user wrote it."""
        return NONE if self.nothing else " ".join([*([MIXTURE] if self.mixture else []), *map(str, self.files)])


def calibration_texts(
    requested: str | Path | Sequence[str | Path] | None,
    *,
    field: str = "text",
    option: str = "--calibration",
    optional: bool = False,
) -> CalibrationTexts:
    """Read what was asked for: without any the mixture, files replace it, and `MIXTURE` among them adds it.

    Args:
        optional: whether `NONE` is taken.

    Raises:
        InputError: `NONE` beside texts or where texts are needed, a folder of statistics beside anything else, or the
            same text twice.
    """
    names = [requested] if isinstance(requested, (str, Path)) else list(requested or ())
    if NONE in map(str, names):
        if len(names) > 1 or not optional:
            raise InputError(
                "No calibration text is one answer and some is another"
                if optional
                else f"{option} says what text to run, and {NONE} is no text",
                received=f"{option} {' '.join(map(str, names))}",
                allowed=f"{NONE} alone, or texts and {MIXTURE}" if optional else f"texts and {MIXTURE}",
                fix=f"Leave {NONE} out; a file of that name is ./{NONE}.",
            )
        return CalibrationTexts(mixture=False, field=field)
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
