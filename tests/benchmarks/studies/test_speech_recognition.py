from __future__ import annotations

import sys
from pathlib import Path

import numpy as np

from jisu.benchmarks.studies.speech_recognition import Worker, same_words, words


def test_words_are_compared_in_their_order() -> None:
    truth = words("The cat, it's here.")
    assert truth == ["the", "cat", "it's", "here"]
    assert same_words(truth, words("the CAT is here!")) == 3
    assert same_words(truth, truth) == 4 and same_words(truth, []) == 0


def test_an_engine_answers_from_its_own_process(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.zeros(1600, np.float32))
    answer = "print('noise'); print(json.dumps({'text': path.strip(), 'seconds': 1}), flush=True)"
    line = f"import json, sys\nfor path in sys.stdin: {answer}"
    worker = Worker("echo", [sys.executable, "-c", line], 1)
    try:
        assert worker.ask(tmp_path / "a.npy") == (str(tmp_path / "a.npy"), 1.0)
    finally:
        worker.close()
