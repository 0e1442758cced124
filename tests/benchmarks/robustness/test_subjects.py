from __future__ import annotations

import pytest

from jisu.benchmarks.robustness.answers import checkpoint_answers
from jisu.benchmarks.robustness.subjects import write_checkpoints

NAMES = ("llama", "sharded", "pickled", "fp8", "window", "bert", "marian", "adapter", "embedding", "speech", "image")


@pytest.fixture(scope="module")
def paths(tmp_path_factory):
    place = tmp_path_factory.mktemp("checkpoints")
    files = {name: place / name for name in NAMES}
    files |= {name: place / name / "tiny.gguf" for name in ("gguf", "gguf-q8")}
    write_checkpoints(files)
    return files


def test_every_form_is_read_and_the_same_numbers_answer_alike(paths):
    actual = {name: checkpoint_answers(path, allow_pickle=True)["answers"] for name, path in paths.items()}
    assert actual["sharded"] == actual["pickled"] == actual["llama"]
    for name in (*NAMES[3:], "gguf"):
        assert actual[name] != actual["llama"]
    assert actual["llama"] == checkpoint_answers(paths["llama"])["answers"]
