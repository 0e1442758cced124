from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.domain_tokens import RANDOM, domain_tokens, random_domain, spread
from jisu.exporter.gate.domains import BUILT_IN, CHAT


class Bytes:
    """One token per byte."""

    def encode(self, text):
        return list(text.encode())


class Begun(Bytes):
    """Puts token 256 before every text."""

    def encode(self, text):
        return [256, *super().encode(text)]


class Letters:
    """Knows Latin letters and spaces only; 0 is its unknown token."""

    unk_token_id = 0

    def encode(self, text):
        text = text.lower().replace(" ", "{")
        return [ord(letter) - 96 if "a" <= letter <= "{" else 0 for letter in text]


class Words(Letters):
    """Knows no word of any text."""

    def encode(self, text):
        return [0] * len(text.split())


def test_every_domain_is_cut_into_windows():
    judged = domain_tokens(Bytes(), 256)
    assert [domain.name for domain in judged.domains] == list(BUILT_IN)
    for domain in judged.domains:
        assert domain.tokens >= 2000
        assert max(len(window) for window in domain.windows) <= 256
    assert judged.left_out == ()


def test_a_window_begins_as_a_text_does():
    domain = domain_tokens(Begun(), 257).domains[0]
    assert all(window[0] == 256 and (window[1:] != 256).all() and len(window) <= 256 for window in domain.windows)


def test_windows_are_not_longer_than_the_model():
    assert max(len(window) for window in domain_tokens(Bytes(), 256, window=9).windows) == 9


def test_the_first_windows_are_from_all_over_a_text():
    assert spread(8) == [0, 4, 2, 6, 1, 5, 3, 7]
    assert sorted(spread(13)) == list(range(13))
    assert spread(1) == [0]


def test_a_domain_that_the_tokenizer_cannot_read_does_not_judge_and_is_named():
    judged = domain_tokens(Letters(), 28)
    names = {domain.name for domain in judged.domains}
    assert "chinese" not in names
    assert any(reason.startswith("chinese: the tokenizer does not know 9") for reason in judged.left_out)
    assert len(names) + len(judged.left_out) == len(BUILT_IN)


def test_a_tokenizer_that_reads_nothing_is_judged_on_random_ids():
    judged = domain_tokens(Words(), 27)
    assert [domain.name for domain in judged.domains] == [RANDOM]
    assert len(judged.left_out) == len(BUILT_IN)


def test_random_ids_are_the_same_every_time():
    first, second = random_domain(50, 16), random_domain(50, 16)
    assert all(np.array_equal(a, b) for a, b in zip(first.windows, second.windows, strict=True))
    assert max(window.max() for window in first.windows) < 50


def test_a_text_of_the_users_takes_the_place_of_all_domains():
    judged = domain_tokens(Bytes(), 256, own="a text of my own. " * 40)
    assert [domain.name for domain in judged.domains] == ["evaluation text"]
    assert bytes(judged.windows[0].astype(np.uint8)).startswith(b"a text of my own.")
    with pytest.raises(InputError, match="shorter than one window"):
        domain_tokens(Bytes(), 256, own="too short")


def test_conversations_are_rendered_with_the_models_template():
    def render(conversation):
        if conversation[0]["role"] == "system":
            raise InputError("no place for a system's message", fix="Leave it out.")
        return "".join(f"<{message['role']}>{message['content']}" for message in conversation)

    def chat(judged):
        return next(domain for domain in judged.domains if domain.name == CHAT)

    rendered, plain = chat(domain_tokens(Begun(), 257, render=render)), chat(domain_tokens(Begun(), 257))
    assert any(bytes(window[1:].astype(np.uint8)).startswith(b"<user>") for window in rendered.windows)
    assert not any(b"<user>" in bytes(window[1:].astype(np.uint8)) for window in plain.windows)
    assert any(b"User: " in bytes(window[1:].astype(np.uint8)) for window in plain.windows)


def test_a_tokenizer_of_a_larger_vocabulary_is_refused():
    with pytest.raises(InputError, match="does not belong to the model"):
        domain_tokens(Bytes(), 100)
