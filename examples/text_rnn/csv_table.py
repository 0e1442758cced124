"""Reads the texts, and the labels, of a CSV file, and refuses what would be trained on by mistake."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jisu import InputError

TEXT, LABEL = "text", "label"
_SHOWN = 5
_LARGEST_FIELD = 1 << 24  # characters


@dataclass(frozen=True, kw_only=True)
class Table:
    """The rows of one file. ``labels`` is None where no label column was asked for."""

    texts: tuple[str, ...]
    labels: tuple[str, ...] | None


def read_table(path: Path, *, text: str = TEXT, label: str | None = None, encoding: str = "utf-8") -> Table:
    """Read a CSV file with a header.

    Args:
        path: the file.
        text, label: names of the columns; no labels are read when ``label`` is None.
        encoding: how the file writes characters; a byte order mark is left out.

    Raises:
        InputError: no such file, another encoding, a missing column, a row with empty cells or of another width, no
            rows at all, or only one label.
    """
    rows, header = _rows(path, _characters(path, encoding))
    columns = [text, *([] if label is None else [label])]
    missing = [name for name in columns if name not in header]
    if missing:
        raise InputError(
            f"{path} has no column named {', '.join(missing)}",
            received=f"the columns {', '.join(header) or '(none)'}",
            allowed=f"a header with {' and '.join(columns)}",
            fix="Rename the columns, or name them with --text-column and --label-column.",
        )
    places = [header.index(name) for name in columns]
    wrong = [
        f"row {line} has {f'{len(row)} cells' if len(row) != len(header) else 'an empty cell'}"
        for line, row in rows
        if len(row) != len(header) or any(not row[place].strip() for place in places)
    ]
    if wrong or not rows:
        raise InputError(
            f"Rows of {path} cannot be used",
            received="; ".join(wrong[:_SHOWN]) + (f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else "")
            if wrong
            else "no rows",
            allowed=f"rows of {len(header)} cells, {' and '.join(columns)} not empty",
            fix="Correct or delete these rows." if wrong else "Give a file with texts.",
        )
    labels = None if label is None else tuple(row[places[1]].strip() for _, row in rows)
    return Table(texts=tuple(row[places[0]] for _, row in rows), labels=labels)


def check_labels(labels: Sequence[str], path: Path) -> tuple[str, ...]:
    """The different labels, sorted; raises InputError when there is only one, which could not be told from another."""
    kinds = tuple(sorted(set(labels)))
    if len(kinds) < 2:
        raise InputError(
            f"{path} has texts of one class only",
            received=kinds[0],
            allowed="two or more different labels",
            fix="Add texts of another class.",
        )
    return kinds


def write_table(path: Path, columns: Sequence[str], rows: Sequence[Sequence[str]]) -> None:
    """Write a CSV file with a header, in UTF-8."""
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file)
        writer.writerow(columns)
        writer.writerows(rows)


def _characters(path: Path, encoding: str) -> str:
    try:
        return path.read_bytes().decode(encoding).removeprefix("\ufeff")
    except OSError as error:
        raise InputError(
            f"The data file {path} cannot be read",
            received=error.strerror or error,
            allowed="a CSV file",
            fix="Check the path.",
        ) from error
    except LookupError as error:
        raise InputError(
            "There is no such encoding",
            received=encoding,
            allowed="a name that Python knows, such as utf-8 or gb18030",
            fix="Correct --encoding.",
        ) from error
    except UnicodeDecodeError as error:
        raise InputError(
            f"{path} is not written in {encoding}",
            received=f"bytes {path.read_bytes()[error.start : error.start + 4].hex(' ')} at position {error.start}",
            allowed=f"text in {encoding}",
            fix="Name the file's own encoding, such as --encoding gb18030.",
        ) from error


def _rows(path: Path, text: str) -> tuple[list[tuple[int, list[str]]], list[str]]:
    """Line number and cells of each row but the header's, and the header; lines with nothing on them are no rows."""
    before = csv.field_size_limit(_LARGEST_FIELD)
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    try:
        rows = [(reader.line_num, row) for row in reader if row]
    except csv.Error as error:
        raise InputError(
            f"{path} is no CSV file",
            received=f"line {reader.line_num}: {error}",
            allowed="comma-separated cells, quoted where they hold commas",
            fix="Save the table as CSV.",
        ) from error
    finally:
        csv.field_size_limit(before)
    if not rows:
        return [], []
    return rows[1:], [name.strip() for name in rows[0][1]]
