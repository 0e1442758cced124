"""A file of settings is what the export wrote, or an error that says what it is instead."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.settings_file import read_settings


@dataclass(frozen=True, kw_only=True)
class Size:
    height: int


def problems_of(size: Size) -> list[str]:
    return [] if size.height > 0 else [f"height is {size.height}"]


def test_what_was_written_is_read(tmp_path: Path) -> None:
    (tmp_path / "size.json").write_text('{"height": 3}')
    assert read_settings(tmp_path / "size.json", Size, problems_of, says="how high it is") == Size(height=3)


@pytest.mark.parametrize(
    ("text", "received"),
    [
        (None, "FileNotFoundError"),
        ("{", "JSONDecodeError"),
        ("[" * 100000, "RecursionError"),
        ('{"width": 3}', "width"),
        ("[3]", "TypeError"),
        ('{"height": -3}', "height is -3"),
    ],
)
def test_anything_else_is_refused(tmp_path: Path, text: str | None, received: str) -> None:
    if text is not None:
        (tmp_path / "size.json").write_text(text)
    with pytest.raises(InputError, match=r"size\.json does not say how high it is") as refusal:
        read_settings(tmp_path / "size.json", Size, problems_of, says="how high it is")
    assert received in str(refusal.value)
