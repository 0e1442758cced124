"""Prompts with slots say what the chat template, or the recipe of a named prompt, makes of the same texts."""

from __future__ import annotations

from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.reranking.description import Reranking
from jisu.exporter.sources.reranking.options import RerankOptions
from jisu.exporter.sources.reranking.prompt import make_prompt
from tests.support.models import CHAT_TEMPLATE, RERANK_TEMPLATE, tiny_tokenizer

HERE = Path("here")
TEXTS = {"query": "who {it} is", "document": "a 'dog'\n{query}", "instruction": "look"}
THINKS = CHAT_TEMPLATE + "{% if enable_thinking is defined and not enable_thinking %}<think>\n\n</think>\n\n{% endif %}"


@pytest.fixture(scope="module")
def tokenizer():
    return tiny_tokenizer()


def with_template(tokenizer, template):
    tokenizer.chat_template = template
    return tokenizer


def filled(pieces, texts=TEXTS):
    from jisu.exporter.contract.rerank_prompt import split_slots

    return ["".join(text if name is None else texts[name] for name, text in split_slots(one)) for one in pieces]


def templated(**changes):
    return Reranking(folder=HERE, yes=1, no=2, templated=True, asks=True, **changes)


def test_a_template_becomes_slots(tokenizer):
    made = make_prompt(templated(), with_template(tokenizer, RERANK_TEMPLATE))
    messages = [{"role": role, "content": TEXTS[role]} for role in ("query", "document")]
    system = {"role": "system", "content": TEXTS["instruction"]}
    options = {"tokenize": False, "add_generation_prompt": True}
    assert filled(made.pieces) == [tokenizer.apply_chat_template(messages, **options)]
    assert filled(made.instructed) == [tokenizer.apply_chat_template([system, *messages], **options)]
    assert made.trims is False


def test_a_default_prompt_takes_the_place_of_the_templates_own(tokenizer):
    made = make_prompt(templated(instruction="look"), with_template(tokenizer, RERANK_TEMPLATE))
    assert filled(made.pieces) == filled(made.instructed)


def test_a_template_that_trims_says_so(tokenizer):
    template = RERANK_TEMPLATE.replace(
        "map(attribute='content') | first }}</s>", "map(attribute='content') | first | trim }}</s>"
    )
    assert make_prompt(templated(), with_template(tokenizer, template)).trims is True


def test_contents_in_parts_are_read(tokenizer):
    template = "{% for m in messages %}{{ m.role }}: {{ m.content[0].text }}\n{% endfor %}"
    made = make_prompt(templated(in_parts=True), with_template(tokenizer, template))
    assert made.pieces == ("query: {query}\ndocument: {document}\n",)


@pytest.mark.parametrize(
    "template",
    [
        "{% for m in messages if m.role in ('system', 'user') %}{{ m.content }}{% endfor %}",  # neither of the two
        "{% for m in messages %}{{ m.content }}{{ m.content }}{% endfor %}",  # each twice
        "{% for m in messages %}{{ m.content | length }}{{ m.content }}{% endfor %}",  # around it what depends on it
        "{query}{% for m in messages %}{{ m.content }}{% endfor %}",  # what looks like a slot
    ],
)
def test_a_template_that_is_no_text_with_slots_is_refused(template, tokenizer):
    with pytest.raises(InputError, match="does not write a query and a document as they are.*--rerank-prompt FILE"):
        make_prompt(templated(), with_template(tokenizer, template))


def test_a_template_that_never_ends_is_refused(tokenizer):
    with pytest.raises(InputError, match="chat template"):
        make_prompt(templated(), with_template(tokenizer, "{% for a in range(99999999) %}{% endfor %}"))


def test_without_a_template_a_pair_is_the_tokenizers(tokenizer):
    # Folders of older versions say nothing of it, and their pairs never go through a template.
    assert make_prompt(Reranking(folder=HERE, yes=1), with_template(tokenizer, RERANK_TEMPLATE)) is None
    with_template(tokenizer, None)
    assert make_prompt(Reranking(folder=HERE, yes=1), tokenizer) is None
    for reranking, message in (
        (Reranking(folder=HERE, yes=1, instruction="a"), "default prompt without a chat template"),
        (templated(), "has no chat template"),
        (Reranking(folder=HERE, options=RerankOptions(prompt="judge")), "has no chat template"),
    ):
        with pytest.raises(InputError, match=message):
            make_prompt(reranking, tokenizer)
    with pytest.raises(InputError, match="has no tokenizer"):
        make_prompt(templated(), None)


def named(name, tokenizer):
    return make_prompt(Reranking(folder=HERE, options=RerankOptions(prompt=name)), tokenizer)


def test_judge_is_a_system_message_and_a_question(tokenizer):
    made = named("judge", with_template(tokenizer, THINKS))
    assert made.pieces[0].startswith("<s>system\nJudge whether the Document meets") and made.pieces[0].endswith(
        "<s>user\n"
    )
    web = "Given a web search query, retrieve relevant passages that answer the query"
    assert filled(made.pieces)[1] == f"<Instruct>: {web}\n<Query>: who {{it}} is\n<Document>: a 'dog'\n{{query}}"
    assert made.pieces[2] == "</s>\n<s>assistant\n<think>\n\n</think>\n\n"
    assert filled(made.instructed)[1].startswith("<Instruct>: look\n<Query>: who")


def test_relevance_has_an_instruction_only_where_one_is_given(tokenizer):
    made = named("relevance", with_template(tokenizer, CHAT_TEMPLATE))
    assert filled(made.pieces)[1:4] == ["query: who {it} is", "\n", "document: a 'dog'\n{query}"]
    assert filled(made.instructed)[1] == "instruction: look\nquery: who {it} is"


def test_passage_is_no_message_and_begins_as_the_tokenizer_does(tokenizer):
    made = named("passage", tokenizer)
    assert filled(made.pieces)[:4] == ["A: who {it} is", "\n", "B: a 'dog'\n{query}", "\n"]
    assert made.instructed[-1] == "{instruction}"
    backend = tokenizer.backend_tokenizer
    from tokenizers.processors import TemplateProcessing

    kept = backend.post_processor
    backend.post_processor = TemplateProcessing(single="<s> $A </s>", special_tokens=[("<s>", 0), ("</s>", 1)])
    try:
        assert named("passage", tokenizer).pieces[:2] == ("<s>", "A: {query}")
        own = make_prompt(
            Reranking(folder=HERE, options=RerankOptions(prompt="{query}{document} {instruction}", yes="y")), tokenizer
        )
        assert (own.pieces, own.instructed) == (
            ("<s>{query}{document} ",),
            ("<s>{query}{document} {instruction}",),
        )
    finally:
        backend.post_processor = kept
