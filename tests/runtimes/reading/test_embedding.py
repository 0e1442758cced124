"""Vectors of texts through the engine: order, prompts, dimensions, and what is refused."""

from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.artifact import EmbeddingFacts
from jisu.exporter.contract.errors import InputError
from jisu.runtimes import load
from jisu.runtimes.reading.embedding import prompt_text, shortened

FACTS = EmbeddingFacts(
    dimensions=3, normalized=True, pooling=("mean",), prompts={"query": "q: ", "none": ""}, default_prompt="query"
)
VECTORS = np.array([[0.6, 0.0, 0.8], [0.0, 1.0, 0.0]], np.float32)
# The last two go into one call, the longer one first.
TEXTS = [
    "a",
    "A longer text of several words, to be read after the short one.",
    "the quick brown fox jumps",
    "the quick brown fox jumps over",
]


@pytest.fixture(scope="module")
def engine(tiny_embedder):
    with load(tiny_embedder.folder) as engine:
        yield engine


def test_vectors_are_in_the_order_of_the_texts_whatever_goes_into_one_call(engine):
    vectors = engine.embed(TEXTS)
    assert vectors.shape == (4, 48) and vectors.dtype == np.float32
    for text, vector in zip(TEXTS, vectors, strict=True):
        np.testing.assert_allclose(engine.embed(text)[0], vector, atol=2e-6)
    np.testing.assert_allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-6)


def test_the_source_gives_the_same_vectors(engine, tiny_embedder):
    with load(tiny_embedder.folder, backend="torch") as source:
        np.testing.assert_allclose(engine.embed(TEXTS), source.embed(TEXTS), atol=1e-5)


def test_a_prompt_goes_before_the_text(engine):
    assert engine.prompts == {"query": "query: ", "document": ""}
    np.testing.assert_array_equal(engine.embed("the dog", prompt="query"), engine.embed("query: the dog"))
    np.testing.assert_array_equal(engine.embed("the dog", prompt="document"), engine.embed("the dog"))
    with pytest.raises(InputError, match="no prompt of this name. Received: 'qurey'. Allowed: query, document"):
        engine.embed("a", prompt="qurey")
    ids = engine.tokenize("query: the dog")
    np.testing.assert_array_equal(engine.embed_ids([ids]), engine.embed("the dog", prompt="query"))


def test_a_text_that_is_too_long_is_refused_or_cut_off(engine):
    with pytest.raises(InputError, match="too long for the model. Received: .* Allowed: at most 128"):
        engine.embed("word " * 500)
    assert engine.embed("word " * 500, truncate=True).shape == (1, 48)


def test_an_embedding_model_does_nothing_else(engine):
    for call in (lambda: engine.generate("a"), lambda: engine.classify("a"), lambda: engine.score("a b")):
        with pytest.raises(InputError, match="jisu embed"):
            call()


def test_other_models_give_no_vectors(tiny_classifier):
    with load(tiny_classifier.folder) as engine, pytest.raises(InputError, match="is not an embedding model"):
        engine.embed("a")


def test_shortened_vectors_have_length_one_where_the_models_have():
    np.testing.assert_allclose(shortened(VECTORS, FACTS, dimensions=2, normalize=None), [[1, 0], [0, 1]])
    np.testing.assert_allclose(shortened(VECTORS, FACTS, dimensions=2, normalize=False), VECTORS[:, :2])
    assert shortened(VECTORS, FACTS, dimensions=None, normalize=None) is not None
    np.testing.assert_allclose(shortened(np.zeros((1, 3), np.float32), FACTS, dimensions=2, normalize=True), [[0, 0]])


@pytest.mark.parametrize("dimensions", [0, 4, -1, True, 1.5])
def test_dimensions_that_are_not_there_are_refused(dimensions):
    with pytest.raises(InputError, match="do not have so many dimensions"):
        shortened(VECTORS, FACTS, dimensions=dimensions, normalize=None)


def test_the_default_prompt_is_taken_when_none_is_named():
    assert (prompt_text(FACTS, None), prompt_text(FACTS, "none")) == ("q: ", "")
