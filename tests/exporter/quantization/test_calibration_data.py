from __future__ import annotations

import pytest

from exporter.contract.errors import InputError
from exporter.gate.evaluation_text import read_evaluation_text
from exporter.quantization.calibration_data import read_calibration_data, refuse_shared_text
from exporter.sources import load_source

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


def test_the_default_halves_share_no_passage():
    from calibration.text.text import default_text

    refuse_shared_text(default_text().text, read_evaluation_text(None).text, origin="default")


def test_a_part_of_the_evaluation_text_is_found():
    with pytest.raises(InputError, match="passages of the evaluation text"):
        refuse_shared_text(STORY[2000:4000], STORY, origin="part")


def test_an_evaluation_text_is_read_and_recorded(tmp_path):
    path = tmp_path / "held_out.txt"
    path.write_text(STORY, encoding="utf-8")
    text = read_evaluation_text(path)
    assert text.given == STORY
    assert text.to_record()["text"] == "held_out.txt"
    assert read_evaluation_text(None).given is None


def test_an_absent_evaluation_text_is_called_by_its_name(tmp_path):
    with pytest.raises(InputError, match="no evaluation text at"):
        read_evaluation_text(tmp_path / "absent.txt")
