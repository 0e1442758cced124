"""A reranker's rows: no control tokens but the prompt's, and a document that is cut off before what follows it."""

from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.rerank_prompt import RerankPrompt
from jisu.runtimes.chat.control_tokens import ControlTokens
from jisu.runtimes.reading.rerank_rows import RerankRows
from tests.support.models import BOS, EOS, tiny_tokenizer

PROMPT = RerankPrompt(
    pieces=("<s>Q: {query}\nD: {document}\nIs it?", "</s>A:"),
    instructed=("<s>{instruction} Q: {query}\nD: {document}\nIs it?", "</s>A:"),
)
TEXTS = ("the lazy dog", "你好,世界!", "Emoji 👩‍💻 🎉", "a\nb {query} {document}", " ")


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def rows(tokenizer, query="who?", *, prompt=PROMPT, instruction=None, limit=None):
    return RerankRows(prompt, ControlTokens(tokenizer.backend_tokenizer), query, instruction=instruction, limit=limit)


def ids(tokenizer, *texts):
    return [number for text in texts for number in tokenizer(text, add_special_tokens=False)["input_ids"]]


@pytest.mark.parametrize("document", TEXTS)
def test_pieces_are_encoded_one_by_one_and_texts_put_in_as_they_are(document, tokenizer):
    expected = ids(tokenizer, f"<s>Q: who?\nD: {document}\nIs it?", "</s>A:")
    assert rows(tokenizer).row(document, truncate=False) == expected
    instructed = ids(tokenizer, f"<s>look Q: who?\nD: {document}\nIs it?", "</s>A:")
    assert rows(tokenizer, instruction="look").row(document, truncate=False) == instructed


@pytest.mark.parametrize("where", ["document", "query", "instruction"])
def test_control_tokens_in_a_text_are_text(where, tokenizer):
    texts = {"query": "who?", "instruction": "look", "document": "dog", where: "a </s><s> b <pad>"}
    made = rows(tokenizer, texts["query"], instruction=texts["instruction"]).row(texts["document"], truncate=False)
    assert [number for number in made if number in (BOS, EOS)] == [BOS, EOS]
    assert tokenizer.decode(made).replace(" ", "") == (
        f"<s>{texts['instruction']}Q:{texts['query']}\nD:{texts['document']}\nIsit?</s>A:".replace(" ", "")
    )


@pytest.mark.parametrize("document", ["dog " * 90, "世界" * 60, "👩‍💻" * 30, "</s>" * 40])
def test_only_the_document_is_cut_off(document, tokenizer):
    whole = rows(tokenizer).row(document, truncate=False)
    cut = rows(tokenizer, limit=40).row(document, truncate=True)
    end = ids(tokenizer, "\nIs it?", "</s>A:")
    assert len(cut) == 40 and cut[-len(end) :] == end
    assert cut[: -len(end)] == whole[: 40 - len(end)]
    with pytest.raises(InputError, match="too long for the model.*document 7. Allowed: at most 40"):
        rows(tokenizer, limit=40).row(document, truncate=False, number=7)


def test_a_query_without_room_for_a_document_is_refused(tokenizer):
    long = rows(tokenizer, "who " * 30, limit=40)
    for truncate in (True, False):
        with pytest.raises(InputError, match="leaves no room for a document" if truncate else "too long"):
            long.row("dog", truncate=truncate)
    exact = len(rows(tokenizer).row("d", truncate=False))
    assert len(rows(tokenizer, limit=exact).row("dddd dddd", truncate=True)) == exact
    with pytest.raises(InputError, match="leaves no room"):
        rows(tokenizer, limit=exact - 1).row("dddd dddd", truncate=True)


def test_spaces_are_trimmed_where_the_template_does_it(tokenizer):
    trimming = RerankPrompt(pieces=PROMPT.pieces, trims=True)
    assert rows(tokenizer, " who? ", prompt=trimming).row("\tdog ", truncate=False) == rows(tokenizer).row(
        "dog", truncate=False
    )
    with pytest.raises(InputError, match="takes no instruction"):
        rows(tokenizer, prompt=trimming, instruction="look")


def test_a_document_may_come_before_the_query(tokenizer):
    turned = RerankPrompt(
        pieces=(
            "<s>D: {document}",
            "</s>Q: {query}",
        )
    )
    made = rows(tokenizer, prompt=turned, limit=30).row("dog " * 50, truncate=True)
    assert len(made) == 30 and made[-len(ids(tokenizer, "</s>Q: who?")) :] == ids(tokenizer, "</s>Q: who?")


def test_text_that_is_no_unicode_is_refused(tokenizer):
    with pytest.raises(InputError, match="Unicode"):
        rows(tokenizer).row("a\ud800", truncate=False)
