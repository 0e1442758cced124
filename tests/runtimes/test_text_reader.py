"""What the engine makes of models that read whole texts is what transformers makes of their checkpoints."""

from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.opening import load
from jisu.runtimes.reading.tagging import AGGREGATIONS

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "Ada Lovelace lived in Paris, and guesses the capital of Japan; (Tokyo)!",
    "dog",
)


def pipeline(task, artifact, **options):
    import transformers

    folder = str(artifact.folder.parent / "source")
    return transformers.pipeline(task, model=folder, tokenizer=folder, **options)


@pytest.mark.parametrize("aggregation", AGGREGATIONS)
@pytest.mark.parametrize("ignored", [("O",), ()])
def test_tags_are_those_of_transformers(aggregation, ignored, tiny_tagger):
    right = pipeline("token-classification", tiny_tagger, aggregation_strategy=aggregation, ignore_labels=list(ignored))
    with load(tiny_tagger.folder) as engine:
        tagged = engine.tag(TEXTS, aggregation=aggregation, ignore_labels=ignored)
    assert any(tagged)
    for text, tags in zip(TEXTS, tagged, strict=True):
        expected = right(text)
        key = "entity" if aggregation == "none" else "entity_group"
        assert [(one[key], one["word"], one["start"], one["end"]) for one in expected] == [
            (tag.label, tag.word, tag.start, tag.end) for tag in tags
        ]
        assert [float(one["score"]) for one in expected] == pytest.approx([tag.score for tag in tags], abs=1e-5)
        if aggregation == "none":
            assert [one["index"] for one in expected] == [tag.token for tag in tags]


LONG = ["Ada Lovelace lived in Paris, and guesses the capital of Japan; (Tokyo)! " * 6, TEXTS[0], "fox " * 45]


@pytest.mark.parametrize("aggregation", AGGREGATIONS[1:])
@pytest.mark.parametrize("stride", [0, 7])
def test_windows_of_long_texts_are_tagged_as_transformers_does_it(aggregation, stride, tiny_tagger):
    right = pipeline("token-classification", tiny_tagger, aggregation_strategy=aggregation, stride=stride)
    right.tokenizer.model_max_length = 24
    with load(tiny_tagger.folder) as engine:
        tagged = engine.tag(LONG, aggregation=aggregation, stride=stride, window=24)
    for text, tags in zip(LONG, tagged, strict=True):
        expected = right(text)
        assert [(one["entity_group"], one["word"], one["start"], one["end"]) for one in expected] == [
            (tag.label, tag.word, tag.start, tag.end) for tag in tags
        ]
        assert [float(one["score"]) for one in expected] == pytest.approx([tag.score for tag in tags], abs=1e-5)
    assert max(tag.end for tag in tagged[0]) > len(LONG[0]) // 2


def test_words_are_those_of_transformers(tiny_filler):
    right = pipeline("fill-mask", tiny_filler, top_k=4)
    with load(tiny_filler.folder) as engine:
        (one,) = engine.fill("The capital of [MASK] is Paris.", top_k=4)
        two = engine.fill(["[MASK] dog and the [MASK] fox"], top_k=4)[0]
    for expected, actual in zip(
        [right("The capital of [MASK] is Paris."), *right("[MASK] dog and the [MASK] fox")], [one, *two], strict=True
    ):
        assert [(word["token"], word["sequence"]) for word in expected] == [(word.token, word.text) for word in actual]
        assert [word["token_str"] for word in expected] == [word.word for word in actual]
        assert [word["score"] for word in expected] == pytest.approx([word.score for word in actual], abs=1e-5)


PAIRS = [
    ("The quick dog", "the lazy fox jumps"),
    ("a", "the capital of France is Paris. " * 9),
    ("dog " * 80, "fox " * 70),
]


def logits_of(artifact, pairs, **options):
    """Of the checkpoint itself, in torch, each pair alone."""
    import torch
    from transformers import AutoModelForSequenceClassification, AutoTokenizer

    folder = str(artifact.folder.parent / "source")
    model, tokenizer = AutoModelForSequenceClassification.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.inference_mode():
        return np.stack([model(**tokenizer(*pair, return_tensors="pt", **options)).logits[0].numpy() for pair in pairs])


def test_documents_are_ranked_by_the_scores_of_pairs(tiny_ranker):
    query = "the capital of Japan"
    documents = [*TEXTS, "Paris " * 100, "Tokyo is the capital of Japan."]
    logits = logits_of(tiny_ranker, [(query, one) for one in documents], truncation=True, max_length=64)[:, 0]
    scores = 1 / (1 + np.exp(-logits.astype(np.float64)))
    with load(tiny_ranker.folder) as engine:
        actual = engine.rerank(query, iter(documents), truncate=True)
        assert engine.rerank(query, documents, truncate=True, top=2) == actual[:2]
    assert [index for index, _ in actual] == np.argsort(-scores).tolist()
    assert [score for _, score in actual] == pytest.approx(np.sort(scores)[::-1].tolist(), abs=1e-5)


def test_pairs_are_told_apart_by_their_types(tiny_ranker):
    assert tiny_ranker.manifest.signature.has_input("token_type_ids")
    expected = logits_of(tiny_ranker, PAIRS, truncation=True, max_length=64)[:, 0]
    with load(tiny_ranker.folder) as engine:
        actual = [one.score for one in engine.classify(PAIRS, truncate=True)]
        one_text = engine.classify(f"{PAIRS[0][0]} [SEP] {PAIRS[0][1]}").score
    assert actual == pytest.approx((1 / (1 + np.exp(-expected))).tolist(), abs=1e-5)
    assert abs(one_text - actual[0]) > 1e-3  # the same ids, all of the first type


CONTEXT = (
    "The quick brown fox jumps over the lazy dog, and the dog does not mind. A language model reads the words so far "
    "and guesses the next word. The capital of France is Paris; the capital of Japan is Tokyo. "
) * 3


def slow_answers(artifact, question, context, *, window, stride, longest, top_k, none):
    """Every span of every window, one by one, with transformers' own tokenizer and model."""
    import torch
    from transformers import AutoModelForQuestionAnswering, AutoTokenizer

    folder = str(artifact.folder.parent / "source")
    model, tokenizer = AutoModelForQuestionAnswering.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    made = tokenizer(
        question,
        context,
        truncation="only_second",
        max_length=window,
        stride=stride,
        return_overflowing_tokens=True,
        return_offsets_mapping=True,
    )
    answers, null = {}, 1.0
    for index, ids in enumerate(made["input_ids"]):
        with torch.inference_mode():
            types = torch.tensor([made["token_type_ids"][index]])
            out = model(torch.tensor([ids]), token_type_ids=types)
        inside = [one == 1 for one in made.sequence_ids(index)]
        kept = torch.tensor([place == 0 or one for place, one in enumerate(inside)])
        ends = [
            torch.where(kept, values[0].double(), -torch.inf).softmax(0)
            for values in (out.start_logits, out.end_logits)
        ]
        null = min(null, float(ends[0][0] * ends[1][0]))
        spans = []
        for first in range(len(ids)):
            for last in range(first, min(first + longest, len(ids))):
                if inside[first] and inside[last]:
                    spans.append((float(ends[0][first] * ends[1][last]), first, last))
        for score, first, last in sorted(spans, reverse=True)[:top_k]:
            words = made[index].word_ids[first], made[index].word_ids[last]
            place = made.word_to_chars(index, words[0], 1).start, made.word_to_chars(index, words[1], 1).end
            answers[place] = max(score, answers.get(place, 0.0))
    listed = [(score, *place) for place, score in answers.items()] + ([(null, 0, 0)] if none else [])
    return sorted(listed, key=lambda one: -one[0])[:top_k]


@pytest.mark.parametrize(("question", "none"), [("What does the dog mind?", False), ("Tokyo?", True)])
def test_answers_are_the_best_spans_of_all_windows(question, none, tiny_answerer):
    options = {"window": 64, "stride": 20, "top_k": 5}
    expected = slow_answers(tiny_answerer, question, CONTEXT, longest=9, none=none, **options)
    with load(tiny_answerer.folder) as engine:
        actual = engine.answer(question, CONTEXT, max_answer_tokens=9, may_be_none=none, **options)
    assert [(one.start, one.end) for one in actual] == [(start, end) for _, start, end in expected]
    assert [one.score for one in actual] == pytest.approx([score for score, *_ in expected], rel=1e-3)
    assert all(CONTEXT[one.start : one.end] == one.text for one in actual)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda engine: engine.answer("dog " * 60, CONTEXT), "question leaves no room"),
        (lambda engine: engine.answer("dog", " "), "The text is empty"),
        (lambda engine: engine.answer("dog", CONTEXT, top_k=0), "top_k is out of range"),
        (lambda engine: engine.tag("dog"), "is not a tagger. Received: an artifact for question-answering"),
    ],
)
def test_bad_questions_are_refused(call, message, tiny_answerer):
    with load(tiny_answerer.folder) as engine, pytest.raises(InputError, match=message):
        call(engine)


@pytest.mark.parametrize(
    ("call", "message"),
    [
        (lambda engine: engine.fill("dog"), r"Nothing is masked in text 0. Received: no \[MASK\]"),
        (lambda engine: engine.fill(["[MASK]", "dog"]), "Nothing is masked in text 1"),
        (lambda engine: engine.fill("[MASK]", top_k=385), "from 1 to 384"),
        (lambda engine: engine.fill(""), "The text is empty"),
    ],
)
def test_bad_texts_are_not_filled(call, message, tiny_filler):
    with load(tiny_filler.folder) as engine, pytest.raises(InputError, match=message):
        call(engine)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"aggregation": "word"}, "no such way to merge tokens. Received: 'word'. Allowed: none, simple, first"),
        ({"ignore_labels": ("PERS",)}, "does not have such a label. Received: 'PERS'"),
        ({"ignore_labels": "O"}, "are not one text"),
        ({"stride": 4, "aggregation": "none"}, "two windows share have two tags"),
        ({"window": 9}, "not a window. Received: window 9 without stride"),
        ({"window": 0, "stride": 1}, "not a window. Received: window 0"),
        ({"window": 9, "stride": 7}, "cannot share so many tokens.*room for 7 tokens.*Allowed: 0 to 6"),
        ({"stride": -1}, "stride -1"),
    ],
)
def test_bad_options_of_tags_are_refused(options, message, tiny_tagger):
    with load(tiny_tagger.folder) as engine, pytest.raises(InputError, match=message):
        engine.tag("dog", **options)


@pytest.mark.parametrize(
    ("query", "documents", "options", "message"),
    [
        ("dog", [], {}, "There is no document"),
        (" ", ["fox"], {}, "The query is empty"),
        ("dog", ["fox", ""], {}, "Document 1 is empty"),
        ("dog", "fox", {}, "The documents are not a list"),
        ("dog", ["fox " * 100], {}, "A pair of texts is too long for the model.*pair 0"),
        ("dog", ["fox"], {"top": 0}, "top 0"),
    ],
)
def test_bad_documents_are_refused(query, documents, options, message, tiny_ranker):
    with load(tiny_ranker.folder) as engine, pytest.raises(InputError, match=message):
        engine.rerank(query, documents, **options)


def test_a_classifier_with_labels_does_not_rank(tiny_classifier):
    with load(tiny_classifier.folder) as engine, pytest.raises(InputError, match="does not rank documents"):
        engine.rerank("dog", ["fox"])
    with load(tiny_classifier.folder) as engine, pytest.raises(InputError, match="Item 1 of 1 is not a pair"):
        engine.classify([("dog", "fox", "cat")])
