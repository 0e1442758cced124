from __future__ import annotations

import pytest

from examples.text_rnn.csv_table import check_labels, read_table, write_table
from jisu.exporter.contract.errors import InputError


def test_table_comes_back_as_it_was_written(tmp_path):
    path = tmp_path / "a.csv"
    write_table(path, ["text", "label"], [['a "quoted", text', "x"], ["two\nlines", "y"]])
    table = read_table(path, label="label")
    assert table.texts == ('a "quoted", text', "two\nlines")
    assert table.labels == ("x", "y")


def test_columns_and_encoding_can_be_named(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes("编号,内容\n1,你好\n\n2,再见\n".encode("gb18030"))
    assert read_table(path, text="内容", encoding="gb18030").texts == ("你好", "再见")


def test_byte_order_mark_is_no_part_of_a_name(tmp_path):
    path = tmp_path / "a.csv"
    path.write_bytes(b"\xef\xbb\xbftext\nhello\n")
    assert read_table(path).texts == ("hello",)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"words,label\na,b\n", "no column named text.*words, label"),
        (b"", "no column named text"),
        (b"text,label\n", "no rows"),
        (b"text,label\na,b\n ,b\nc,\n", "row 3 has an empty cell; row 4 has an empty cell"),
        (b"text,label\na,b\nc\n", "row 3 has 1 cells"),
        (b"text,label\n\xff\xfe,b\n", "not written in utf-8.*ff fe"),
        (b'text,label\n"a"b,c\n', "is no CSV file"),
    ],
)
def test_unusable_files_are_refused_with_the_reason(tmp_path, content, message):
    path = tmp_path / "a.csv"
    path.write_bytes(content)
    with pytest.raises(InputError, match=f"(?s){message}"):
        read_table(path, label="label")


def test_missing_file_and_unknown_encoding_are_refused(tmp_path):
    with pytest.raises(InputError, match="cannot be read"):
        read_table(tmp_path / "none.csv")
    (tmp_path / "a.csv").write_text("text\na\n")
    with pytest.raises(InputError, match="no such encoding"):
        read_table(tmp_path / "a.csv", encoding="utf-99")


def test_one_class_only_is_refused(tmp_path):
    assert check_labels(["b", "a", "b"], tmp_path) == ("a", "b")
    with pytest.raises(InputError, match="one class only"):
        check_labels(["a", "a"], tmp_path)
