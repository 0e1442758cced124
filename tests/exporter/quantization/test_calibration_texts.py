from __future__ import annotations

from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.quantization.calibration_texts import MIXTURE, calibration_texts


@pytest.mark.parametrize(
    ("requested", "files", "mixture"),
    [
        (None, (), True),
        ([], (), True),
        (MIXTURE, (), True),
        ("a.txt", ("a.txt",), False),
        (["a.txt", "b.txt"], ("a.txt", "b.txt"), False),
        ([MIXTURE, "a.txt"], ("a.txt",), True),
        (Path("./mixture/x"), ("mixture/x",), False),
    ],
)
def test_texts_replace_the_mixture_unless_it_is_named(requested, files, mixture):
    texts = calibration_texts(requested)
    assert texts.files == tuple(map(Path, files))
    assert texts.mixture is mixture


def test_the_same_text_twice_is_refused():
    with pytest.raises(InputError, match="given twice.*--calibration a.txt a.txt"):
        calibration_texts(["a.txt", "a.txt"])


def test_statistics_stand_alone(tmp_path):
    from jisu.calibration.statistics.statistics import INDEX

    (tmp_path / INDEX).write_text("{}", encoding="utf-8")
    assert calibration_texts(tmp_path).statistics == tmp_path
    with pytest.raises(InputError, match="cannot be combined with other calibration texts"):
        calibration_texts([MIXTURE, tmp_path])


def test_no_text_at_all_is_a_choice_where_text_is_optional():
    texts = calibration_texts("none", optional=True)
    assert (texts.files, texts.mixture, texts.nothing, texts.words) == ((), False, True, "none")
    assert not calibration_texts(None).nothing
    assert calibration_texts("./none", optional=True).files == (Path("none"),)


def test_no_text_beside_a_text_is_refused():
    with pytest.raises(InputError, match=r"some is another.*--calibration none a\.txt.*Leave none out"):
        calibration_texts(["none", "a.txt"], optional=True)


def test_where_text_is_what_is_asked_for_there_is_no_none():
    with pytest.raises(InputError, match="--data says what text to run.*--data none"):
        calibration_texts("none", option="--data")
