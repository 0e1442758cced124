from __future__ import annotations

from types import SimpleNamespace

import pytest

from jisu.exporter.sources.named_classes import listed_classes, named_architectures


@pytest.mark.parametrize(
    ("stated", "expected"),
    [(["A", "B"], ["A", "B"]), ("A", ["A"]), (None, []), (-2, []), ({"A": 1}, []), ([1], ["1"])],
)
def test_names_are_found_whatever_stands_there(stated, expected):
    assert named_architectures(SimpleNamespace(architectures=stated)) == expected


def test_one_class_and_several_are_listed_alike():
    class Config:
        pass

    assert listed_classes({Config: int}, Config()) == (int,)
    assert listed_classes({Config: (int, str)}, Config()) == (int, str)
    assert listed_classes({}, Config()) == ()
