from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.evaluation_text import read_evaluation_text
from jisu.exporter.quantization.calibration_data import (
    prepare_calibration_data,
    read_calibration_data,
    write_calibration_data,
)
from jisu.exporter.quantization.calibration_mixture import UNWRITTEN
from jisu.exporter.quantization.calibration_texts import calibration_texts
from jisu.exporter.sources import load_source
from tests.support.word_model import word_source

STORY = "".join(f"On day {day} the ship sailed {day * 7} miles and met {day % 5} whales. " for day in range(300))


@pytest.fixture(scope="module")
def source(tiny_source):
    return load_source(tiny_source)


def test_the_default_text_gives_windows_and_their_record(source):
    data = read_calibration_data(source, None, windows=3, window_tokens=32)
    assert data.windows.ids.shape == (3, 32)
    assert data.record["windows_sha256"] == data.windows.sha256
    assert "path" not in data.record


@pytest.mark.parametrize(
    ("content", "message"),
    [(b"", "is empty"), (b"   \n", "is empty"), (b"\xff\xfe\x00", "not UTF-8"), (b"Too short.", "shorter than one")],
)
def test_unusable_text_is_one_error(source, tmp_path, content, message):
    (tmp_path / "corpus.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_calibration_data(source, tmp_path / "corpus.txt")


def test_a_column_is_read_by_its_name(source, tmp_path):
    (tmp_path / "corpus.csv").write_text(f'id,story\n1,"{STORY}"\n', encoding="utf-8")
    data = read_calibration_data(source, tmp_path / "corpus.csv", field="story", windows=2, window_tokens=16)
    assert len(data.windows.ids) == 2
    with pytest.raises(InputError, match="no text in the field 'text'"):
        read_calibration_data(source, tmp_path / "corpus.csv")


def test_the_evaluation_text_is_refused_for_calibration(source, tmp_path):
    (tmp_path / "corpus.txt").write_text("Something else first. " * 40 + STORY, encoding="utf-8")
    with pytest.raises(InputError, match="calibrated on the text that its quality"):
        read_calibration_data(source, tmp_path / "corpus.txt", evaluation=STORY)


def test_the_mixture_and_a_text_have_half_of_the_windows_each(source, tmp_path):
    (tmp_path / "corpus.txt").write_text(STORY, encoding="utf-8")
    texts = calibration_texts(["mixture", tmp_path / "corpus.txt"])
    data = prepare_calibration_data(source, texts, windows=16, window_tokens=16)
    assert data.parts.count("your text") == 8
    assert data.record["text"] == "the built-in mixture and corpus.txt"


def test_several_texts_are_weighted_alike_and_replace_the_mixture(source, tmp_path):
    (tmp_path / "a.txt").write_text(STORY, encoding="utf-8")
    (tmp_path / "b.txt").write_text("Nothing of that kind. " * 200, encoding="utf-8")
    data = read_calibration_data(
        source, calibration_texts([tmp_path / "a.txt", tmp_path / "b.txt"]), windows=4, window_tokens=16
    )
    texts = [source.tokenizer.decode(row) for row in data.windows.ids]
    assert ["kind" in text or "Nothing" in text for text in texts] == [False, True, False, True]
    assert [text["text"] for text in data.record["texts"]] == ["a.txt", "b.txt"]
    assert "made_of" not in data.record


def test_a_plan_says_what_the_model_will_write_and_keeps_its_fingerprint(source):
    planned = prepare_calibration_data(source, windows=8, window_tokens=16)
    missing = (planned.windows.ids == UNWRITTEN).all(axis=1)
    assert [part == "own writing" for part in planned.parts] == missing.tolist()
    assert missing.sum() == 5
    written = write_calibration_data(source, planned)
    assert (written.windows.ids >= 0).all()
    assert written.fingerprint == planned.fingerprint
    assert written.record["windows_sha256"] == written.windows.sha256


def test_another_seed_of_the_plan_is_another_fingerprint(source, monkeypatch):
    first = prepare_calibration_data(source, windows=8, window_tokens=16).fingerprint
    assert prepare_calibration_data(source, windows=8, window_tokens=16).fingerprint == first
    monkeypatch.setattr("jisu.exporter.quantization.own_writing.TEMPERATURES", (0.5,))
    assert prepare_calibration_data(source, windows=8, window_tokens=16).fingerprint != first


def test_a_text_of_unknown_words_is_refused(tmp_path):
    other = word_source()
    (tmp_path / "known.txt").write_text("red green blue " * 20, encoding="utf-8")
    assert len(read_calibration_data(other, tmp_path / "known.txt", windows=2, window_tokens=8).windows.ids) == 2
    (tmp_path / "unknown.txt").write_text("crimson viridian azure " * 20, encoding="utf-8")
    with pytest.raises(InputError, match="does not know the words of unknown.txt.*100%"):
        read_calibration_data(other, tmp_path / "unknown.txt", windows=2, window_tokens=8)


def test_an_evaluation_text_is_read_and_recorded(tmp_path):
    path = tmp_path / "held_out.txt"
    path.write_text(STORY, encoding="utf-8")
    text = read_evaluation_text(path)
    assert text.requested == STORY
    assert text.to_record()["text"] == "held_out.txt"
    assert read_evaluation_text(None).requested is None


def test_an_absent_evaluation_text_is_called_by_its_name(tmp_path):
    with pytest.raises(InputError, match="no evaluation text at"):
        read_evaluation_text(tmp_path / "absent.txt")
