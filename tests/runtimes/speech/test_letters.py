from __future__ import annotations

import numpy as np

from jisu.exporter.contract.audio_settings import AudioSettings
from jisu.runtimes.speech.letters import runs_of, words_of

LETTERS = ("<pad>", "|", "A", "B")


def logits(labels: list[int]) -> np.ndarray:
    scores = np.zeros((len(labels), len(LETTERS)), np.float32)
    scores[np.arange(len(labels)), labels] = 1
    return scores


def settings(labels: tuple[str, ...] = LETTERS) -> AudioSettings:
    return AudioSettings(
        sampling_rate=16000,
        input_name="input_values",
        dims=(None,),
        window=None,
        shortest=1600,
        hop=1,
        writes="frames",
        labels=labels,
        blank=0,
        space="|",
    )


def test_repetitions_are_one_unless_a_blank_is_between() -> None:
    runs = runs_of(logits([0, 2, 2, 0, 2, 3, 0]), 0)
    assert [(run.label, run.start, run.end) for run in runs] == [(2, 1, 3), (2, 4, 5), (3, 5, 6)]


def test_words_have_the_frames_of_their_letters() -> None:
    runs = runs_of(logits([1, 2, 0, 3, 1, 1, 0, 1, 3, 3]), 0)
    assert words_of(runs, settings(), lambda labels: "") == [("AB", 1, 4), ("B", 8, 10)]


def test_silence_is_no_word() -> None:
    assert words_of(runs_of(logits([0, 0, 1, 0]), 0), settings(), lambda labels: "") == []


def test_a_tokenizer_makes_the_text_where_there_are_no_letters() -> None:
    runs = runs_of(logits([0, 2, 2, 3]), 0)
    assert words_of(runs, settings(labels=()), lambda labels: " " + "-".join(map(str, labels))) == [("2-3", 1, 4)]
    assert words_of([], settings(labels=()), lambda labels: "") == []
