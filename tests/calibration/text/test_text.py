from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from jisu.calibration.errors import MissingPackageError, TextError
from jisu.calibration.text.text import read_text


def test_plain_text_keeps_its_characters_and_has_the_hash_of_its_bytes(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("春天\nspring", encoding="utf-8")
    actual = read_text(tmp_path / "a.txt")

    assert (actual.text, actual.origin) == ("春天\nspring", "a.txt")
    assert actual.sha256 == hashlib.sha256("春天\nspring".encode()).hexdigest()


def test_json_lines_join_a_field(tmp_path: Path) -> None:
    (tmp_path / "a.jsonl").write_text('{"text": "one\u2028still one"}\n\n{"text": "two"}\n', encoding="utf-8")
    assert read_text(tmp_path / "a.jsonl").text == "one\u2028still one\ntwo"


def test_a_csv_column_may_hold_lines(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('id,body\n1,"one\nmore"\n2,two\n', encoding="utf-8")
    assert read_text(tmp_path / "a.csv", field="body").text == "one\nmore\ntwo"


@pytest.mark.parametrize("content", [b"", b" \n\t\n"])
def test_empty_text_is_refused(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "a.txt").write_bytes(content)
    with pytest.raises(TextError, match="a.txt is empty"):
        read_text(tmp_path / "a.txt")


def test_text_that_is_not_utf8_names_the_byte(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_bytes("Müller".encode("latin-1"))
    with pytest.raises(TextError, match="byte 0xfc at position 1"):
        read_text(tmp_path / "a.txt")


def test_a_missing_file_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="There is no calibration text"):
        read_text(tmp_path / "none.txt")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("a.jsonl", '{"text": "a"}\n{"text":\n', "Line 2 of .* is not JSON"),
        ("a.jsonl", '{"body": "a"}\n', "field 'text' of line 1 .*Allowed: a field with text: body"),
        ("a.jsonl", '{"text": 5}\n', "a value of type int"),
        ("a.jsonl", "[1]\n", "no such field"),
        ("a.csv", "id,body\n1,two\n", "Allowed: a field with text: body, id"),
    ],
)
def test_damaged_records_name_their_line(tmp_path: Path, name: str, content: str, message: str) -> None:
    (tmp_path / name).write_text(content, encoding="utf-8")
    with pytest.raises(TextError, match=message):
        read_text(tmp_path / name)


def test_a_folder_that_is_no_dataset_is_refused(tmp_path: Path) -> None:
    with pytest.raises(TextError, match="without .arrow files"):
        read_text(tmp_path)


def test_a_dataset_on_disk_is_read_or_names_the_package(tmp_path: Path) -> None:
    try:
        import pyarrow as arrow
    except ImportError:
        (tmp_path / "data-00000-of-00001.arrow").write_bytes(b"")
        with pytest.raises(MissingPackageError, match="pip install pyarrow"):
            read_text(tmp_path)
        return
    table = arrow.table({"text": ["one", "two"]})
    with arrow.ipc.new_stream(str(tmp_path / "data-00000-of-00001.arrow"), table.schema) as writer:
        writer.write_table(table)
    assert read_text(tmp_path).text == "one\ntwo"
    with pytest.raises(TextError, match="Allowed: one of text"):
        read_text(tmp_path, field="body")
