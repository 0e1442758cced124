from __future__ import annotations

import numpy as np
import pytest

from examples.text_rnn.word_vectors import coverage_of, read_vectors, train_vectors, vector_size
from jisu.exporter.contract.errors import InputError

VOCABULARY = {"<pad>": 0, "<unk>": 1, "<bos>": 2, "<eos>": 3, "cat": 4, "dog": 5, "fish": 6}


def write(tmp_path, text: str):
    path = tmp_path / "vectors.txt"
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize("header", ["", "3 2\n"])
def test_both_text_forms_are_read_and_other_words_dropped(tmp_path, header):
    vectors = read_vectors(write(tmp_path, f"{header}cat 1 2\nwhale 3 4\ndog -0.5 1e-2\n"), VOCABULARY)
    assert sorted(vectors) == ["cat", "dog"]
    np.testing.assert_array_equal(vectors["dog"], np.array([-0.5, 0.01], np.float32))
    assert vector_size(vectors) == 2


def test_coverage_counts_words_and_running_text(tmp_path):
    vectors = read_vectors(write(tmp_path, "cat 1 2\n"), VOCABULARY)
    coverage = coverage_of(vectors, VOCABULARY, [[2, 4, 4, 5, 3], [2, 4, 3]])
    assert (coverage.with_vector, coverage.words, coverage.running) == (1, 3, 0.75)
    assert str(coverage) == "1 of 3 words have a vector (33.3%), 75.0% of the running text"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("cat 1 2\ndog 1\n", "Line 2 .*1 numbers"),
        ("2 3\ncat 1 2\n", "Line 2 .*2 numbers"),
        ("cat 1 2\ndog 1 x\n", "Line 2"),
        ("cat 1 nan\n", "not finite"),
        ("", "has no word vectors"),
        ("whale 1 2\n", "no vector for any word"),
        ("cat 1 2 3\n", "another size"),
    ],
)
def test_bad_files_are_refused_with_the_line(tmp_path, text, message):
    with pytest.raises(InputError, match=message):
        read_vectors(write(tmp_path, text), VOCABULARY, size=2 if "3" in text and "cat 1 2 3" in text else None)


def test_trained_vectors_are_seeded_and_put_like_words_together(tmp_path):
    texts = [[animal, "eats", food] for animal in ("cat", "dog") for food in ("meat", "fish")] * 30
    texts += [[colour, "is", "a", "colour"] for colour in ("red", "blue")] * 30
    paths = [tmp_path / "a.txt", tmp_path / "b.txt"]
    for path in paths:
        assert train_vectors(texts, path, size=16, seed=3) == 10
    assert paths[0].read_bytes() == paths[1].read_bytes()
    vectors = read_vectors(paths[0], {word: 0 for text in texts for word in text}, size=16)

    def closeness(one: str, other: str) -> float:
        return float(vectors[one] @ vectors[other] / np.linalg.norm(vectors[one]) / np.linalg.norm(vectors[other]))

    assert closeness("cat", "dog") > closeness("cat", "red")
    with pytest.raises(InputError, match="cannot be trained"):
        train_vectors([["alone"]], tmp_path / "c.txt", size=4)
