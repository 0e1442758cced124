"""Text of the user's: plain text, JSON lines, CSV, or a Hugging Face dataset saved on disk, with the hash by which it
is recognized.
"""

from __future__ import annotations

import csv
import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jisu.calibration.errors import MissingPackageError, TextError

DEFAULT_FIELD = "text"
KINDS = "a text file (.txt, .md), JSON lines (.jsonl), CSV (.csv), or a folder written by datasets' save_to_disk"


@dataclass(frozen=True, kw_only=True)
class CalibrationText:
    """Text with its origin; ``sha256`` is of its UTF-8 bytes."""

    text: str
    origin: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(self.text.encode("utf-8")).hexdigest()


def read_text(path: str | Path, *, field: str = DEFAULT_FIELD) -> CalibrationText:
    """Read calibration text; the records of a structured file are joined by newlines.

    Args:
        path: the ending says the kind; a folder is a dataset on disk; any other file is plain text.
        field: the key or column that holds the text of a structured file.

    Raises:
        TextError: nothing there, not UTF-8, damaged, no such field, or no text in it.
        MissingPackageError: a dataset on disk without pyarrow.
    """
    path = Path(path)
    try:
        there = path.exists()
    except OSError:  # no path that the system could have, such as one too long
        there = False
    if not there:
        raise TextError(
            f"There is no calibration text at {path}",
            received="a path that does not exist",
            allowed=KINDS,
            fix="Check the path.",
        )
    if path.is_dir():
        records = _dataset_records(path, field)
    elif path.suffix.lower() in (".jsonl", ".ndjson"):
        records = _json_records(path, field)
    elif path.suffix.lower() == ".csv":
        records = _csv_records(path, field)
    else:
        records = iter([_decoded(path)])
    text = "\n".join(records)
    if not text.strip():
        raise TextError(
            f"The calibration text {path} is empty",
            received=f"{len(text)} characters, none of them visible",
            allowed="text like what the model will be used on",
            fix="Give another file.",
        )
    return CalibrationText(text=text, origin=path.name)


def _decoded(path: Path) -> str:
    try:
        data = path.read_bytes()
    except OSError as error:
        raise TextError(
            f"The calibration text {path} cannot be read",
            received=error.strerror or error,
            allowed="a file that may be read",
            fix="Check its permissions, or give another file.",
        ) from error
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TextError(
            f"The calibration text {path} is not UTF-8",
            received=f"byte 0x{data[error.start]:02x} at position {error.start}",
            allowed="UTF-8",
            fix="Convert it, for example with iconv -t utf-8.",
        ) from error


def _json_records(path: Path, field: str) -> Iterator[str]:
    # Not splitlines: a JSON string may hold U+2028, which that takes for the end of a line.
    for number, line in enumerate(_decoded(path).split("\n"), start=1):
        if not line.strip():
            continue
        try:
            record = json.loads(line)
        except ValueError as error:
            raise TextError(
                f"Line {number} of {path} is not JSON",
                received=str(error),
                allowed="one JSON object per line",
                fix="Repair that line, or rename a plain text to .txt.",
            ) from error
        yield _field_of(record if isinstance(record, dict) else {}, field, f"line {number} of {path}")


def _csv_records(path: Path, field: str) -> Iterator[str]:
    csv.field_size_limit(1 << 30)  # a record is a document; the module's default is 128 kB
    reader = csv.DictReader(_decoded(path).splitlines(keepends=True))
    for record in reader:
        yield _field_of(record, field, f"line {reader.line_num} of {path}")


def _field_of(record: dict[str, object], field: str, where: str) -> str:
    value = record.get(field)
    if isinstance(value, str):
        return value
    known = sorted(str(key) for key, item in record.items() if isinstance(item, str))
    raise TextError(
        f"There is no text in the field {field!r} of {where}",
        received="no such field" if field not in record else f"a value of type {type(value).__name__}",
        allowed=f"a field with text: {', '.join(known)}" if known else "a record with a text field",
        fix="Name the field that holds the text.",
    )


def _dataset_records(folder: Path, field: str) -> Iterator[str]:
    files = sorted(folder.glob("*.arrow")) or sorted(folder.glob("*/*.arrow"))
    if not files:
        raise TextError(
            f"The folder {folder} is not a dataset",
            received="a folder without .arrow files",
            allowed=KINDS,
            fix="Write it with datasets' save_to_disk, or give one file.",
        )
    try:
        import pyarrow  # type: ignore[import-not-found, import-untyped, unused-ignore]
    except ImportError as error:
        raise MissingPackageError("pyarrow", needed_for="A dataset on disk") from error
    for file in files:
        try:
            # datasets writes streams, and files of older versions are in the file format.
            with pyarrow.memory_map(str(file)) as source:
                try:
                    table = pyarrow.ipc.open_stream(source).read_all()
                except pyarrow.ArrowInvalid:
                    table = pyarrow.ipc.open_file(source).read_all()
        except pyarrow.ArrowInvalid as error:
            raise TextError(
                f"{file} is not an Arrow file",
                received=str(error),
                allowed="files written by datasets' save_to_disk",
                fix="Write the dataset again.",
            ) from error
        yield from _column_of(table.column_names, table, field, file)


def _column_of(names: Iterable[str], table: object, field: str, file: Path) -> Iterator[str]:
    if field not in names:
        raise TextError(
            f"There is no column {field!r} in {file}",
            received="no such column",
            allowed=f"one of {', '.join(names)}",
            fix="Name the column that holds the text.",
        )
    for value in table.column(field).to_pylist():  # type: ignore[attr-defined]
        yield _field_of({field: value}, field, str(file))
