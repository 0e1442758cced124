from __future__ import annotations

import numpy as np
import pytest

from jisu.benchmarks.compare.inputs import Input
from jisu.benchmarks.compare.journal import Journal
from jisu.benchmarks.compare.rounds import open_processes, restored_outcomes
from jisu.benchmarks.compare.speech_quality import edits, measure_speech_quality, words_of
from jisu.benchmarks.compare.timed_process import TimedProcess
from tests.benchmarks.fake_worker import fake_contestant

RECORDINGS = (Input(name="talk", file="talk.npy"), Input(name="song", file="song.npy"))
# Another transcript of the second one, and nothing but its words where it is longer than a window.
SONG = "if file.startswith('song'): said.update(text='One, two: four!', tokens=[2, 3, 5])"
LONG = "if file.startswith('song'): said.update(whole=False)"


def measured(folder, truth="pass", **contestants):
    made = [fake_contestant(name, **lines) for name, lines in contestants.items()]
    journal = Journal(folder, "plan")
    outcomes = restored_outcomes(made, [])
    with (
        open_processes(outcomes, needed=lambda _: True, time_limit=60, journal=journal, say=print) as processes,
        TimedProcess(fake_contestant("reference", says=truth).command, time_limit=60) as reference,
    ):
        measure_speech_quality(reference, outcomes, processes, recordings=RECORDINGS, journal=journal, say=print)
    return outcomes


def test_words_and_logits_of_what_the_source_wrote_are_compared(tmp_path):
    outcomes = measured(
        tmp_path,
        same={},
        other={"says": SONG, "logits": "logits[:, 2] = 4"},
        nan={"logits": "logits[:] = np.nan"},
        mute={"says": "raise UnsupportedError('not told')"},
    )
    same, other = (outcomes[name].quality for name in ("same", "other"))
    assert same["transcripts"] == {"same_words": 1.0, "words": 6, "recordings": 2}
    assert (same["worst"]["mean_kl"], same["average"]["top1"]) == (0.0, 1.0)
    assert same["sets"]["talk"]["tokens"] == 4  # three tokens, and what ends them
    assert other["sets"]["song"]["wrong_words"] == 1
    assert other["transcripts"]["same_words"] == pytest.approx(5 / 6)
    # p and q are e^4 in other places of eight.
    kl = 4 * (np.exp(4) - 1) / (np.exp(4) + 7)
    assert other["worst"]["mean_kl"] == pytest.approx(kl)
    assert (other["worst"]["top1"], other["average"]["domains"]) == (0.0, 2)
    assert "not finite" in outcomes["nan"].failure
    assert "no transcript: not told" in outcomes["mute"].failure


def test_of_a_recording_beyond_the_window_only_words_count(tmp_path):
    quality = measured(tmp_path, truth=LONG, same={"says": LONG})["same"].quality
    assert "mean_kl" not in quality["sets"]["song"]
    assert quality["average"]["domains"] == 1
    assert quality["transcripts"]["words"] == 6


def test_without_words_tokens_are_compared(tmp_path):
    wordless = "said.update(text='')"
    quality = measured(tmp_path, truth=wordless, other={"says": f"{wordless}; said['tokens'] = [2, 4]"})[
        "other"
    ].quality
    assert quality["transcripts"] == {"same_words": pytest.approx(4 / 6), "words": 6, "recordings": 2}


def test_words_have_no_case_and_no_punctuation_and_han_is_read_by_characters():
    assert words_of("Don't  STOP, (now)!") == ["don", "t", "stop", "now"]
    assert words_of("\u4f60\u597d world") == ["\u4f60", "\u597d", "world"]


@pytest.mark.parametrize(
    ("truth", "other", "expected"),
    [("abc", "abc", 0), ("abc", "axc", 1), ("abc", "", 3), ("", "ab", 2), ("abc", "bcd", 2)],
)
def test_edits_are_the_fewest(truth, other, expected):
    assert edits(truth, other) == expected
