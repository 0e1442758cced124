from __future__ import annotations

import ast
import re
from importlib.resources import files
from pydoc_data.topics import topics

from jisu.exporter.gate.domains import BUILT_IN, CHAT, built_in_domains, held_out_prose, held_out_text


def test_every_text_in_the_folder_is_a_domain():
    names = {path.name.rpartition(".")[0] for path in (files("jisu.exporter.gate") / "held_out_texts").iterdir()}
    assert names == set(BUILT_IN)


def test_there_are_enough_kinds_of_text():
    kinds = list(BUILT_IN.values())
    assert kinds.count("prose") >= 3
    assert kinds.count("language") >= 8
    assert kinds.count("code") >= 4
    assert {"markup", "chat"} <= set(kinds)


def test_each_language_is_in_its_own_script():
    scripts = {
        "arabic": r"[؀-ۿ]",
        "chinese": r"[一-鿿]",
        "greek": r"[Ͱ-Ͽ]",
        "hindi": r"[ऀ-ॿ]",
        "japanese": r"[぀-ヿ]",
        "korean": r"[가-힣]",
        "russian": r"[Ѐ-ӿ]",
    }
    texts = {domain.name: domain.text for domain in built_in_domains()}
    for name, script in scripts.items():
        assert len(re.findall(script, texts[name])) > 1000, name


def test_a_domain_has_several_passages_of_some_length():
    for domain in built_in_domains():
        assert len(domain.passages) + len(domain.conversations) >= 8, domain.name
        assert len(domain.text.encode()) > 7000, domain.name
        assert not any("%%" in passage.splitlines() for passage in domain.passages)


def test_python_is_python():
    python = next(domain for domain in built_in_domains() if domain.name == "python")
    for passage in python.passages:
        ast.parse(passage)


def test_conversations_alternate_and_end_with_an_answer():
    chat = next(domain for domain in built_in_domains() if domain.kind == "chat")
    for conversation in chat.conversations:
        roles = [message["role"] for message in conversation if message["role"] != "system"]
        assert roles == ["user", "assistant"] * (len(roles) // 2)


def test_nothing_of_them_is_in_the_prose_that_calibration_uses():
    prose = "\n".join(topics.values())
    text = "\n".join((held_out_prose(), *(d.text for d in built_in_domains() if d.name in ("python", CHAT))))
    pieces = [text[start : start + 60] for start in range(0, len(text), 60)]
    assert not [piece for piece in pieces if piece in prose]


def test_long_prompts_are_cut_from_english():
    assert len(held_out_prose()) > 30_000
    assert held_out_prose() in held_out_text()
