from __future__ import annotations

import pytest

from jisu.benchmarks.report.places import own_name, without_places


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("/home/ann/build/int8", "int8"),
        ("jisu compare /home/ann/build/int8 --out=/tmp/report/a", "jisu compare int8 --out=a"),
        ("~/models/int8 is missing", "int8 is missing"),
        ('File "/opt/python/lib/x.py", line 3', 'File "x.py", line 3'),
        (r"C:\Users\ann\build\int8", "int8"),
        ("C:/Users/ann/int8", "int8"),
        ("build/int8 at 3 tok/s", "build/int8 at 3 tok/s"),
        ("see https://example.org/a/b", "see https://example.org/a/b"),
        ("1/2 or /", "1/2 or /"),
    ],
)
def test_absolute_paths_become_names_and_nothing_else_changes(text: str, expected: str) -> None:
    assert without_places(text) == expected


def test_every_text_of_a_report_is_looked_at() -> None:
    report = {"rows": [{"path": "/a/b/c", "size": 3, "more": ("/x/y", None)}]}
    assert without_places(report) == {"rows": [{"path": "c", "size": 3, "more": ["y", None]}]}


def test_a_word_with_blanks_is_one_path() -> None:
    assert own_name("/home/ann/My Models/int8") == "int8"
    assert own_name("build/My Models") == "build/My Models"
