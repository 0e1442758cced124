"""One row: its text, its stop strings, and the seconds of the steps it was in."""

from __future__ import annotations

from typing import Any

import pytest

from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.sampling import RowSampler, TokenLogprobs
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.generation.text_row import TextRow
from jisu.runtimes.generation.token_loop import SampledToken
from tests.runtimes.tiny_text import byte_level_tokenizer

TOKENIZER = byte_level_tokenizer()
CODEC = TextCodec(TOKENIZER)
VOCAB = TOKENIZER.get_vocab_size()


def row(*, codec: TextCodec | None = CODEC, first_step: int = 0, **options: Any) -> TextRow:
    chosen = SamplingOptions(**options)
    sampler = RowSampler(chosen, prompt=[3], vocab_size=VOCAB)
    return TextRow([3], read=[3, 4], sampler=sampler, options=chosen, codec=codec, seed=7, first_step=first_step)


def item(token: int, *, ends: bool = False, logprobs: TokenLogprobs | None = None) -> SampledToken:
    return SampledToken(row=0, token=token, ends=ends, logprobs=logprobs)


def test_the_text_is_that_of_the_tokens_and_a_part_of_a_character_waits() -> None:
    one = row()
    tokens = [token for byte in "é!".encode() for token in [TOKENIZER.token_to_id(byte_token(byte))]]
    shown = [one.push(item(token), None, step=step)[0] for step, token in enumerate(tokens)]
    assert shown[0] == "" and "".join(shown) == "é!"
    result = one.result("length", step_seconds=[1.0, 2.0, 4.0], encode_seconds=0.5)
    assert (result.text, result.token_ids, result.prompt_tokens, result.seed) == ("é!", tuple(tokens), 2, 7)
    assert (result.timings.time_to_first_token, result.timings.decode_seconds) == (1.5, 6.0)


def byte_token(byte: int) -> str:
    """How the tokenizer writes a byte."""
    return (
        str(TOKENIZER.pre_tokenizer.pre_tokenize_str(bytes([byte]).decode("latin-1"))[0][0])
        if byte < 128
        else {
            0xC3: "Ã",
            0xA9: "©",
        }[byte]
    )


def test_an_end_token_has_no_text_and_a_stop_string_ends_what_has_not_ended() -> None:
    one = row(stop=("b",))
    a, b = (CODEC.encode(text, special_tokens=False)[0] for text in "ab")
    assert one.push(item(a), None, step=0) == ("a", False)
    assert one.push(item(b), None, step=1) == ("", True)
    other = row()
    assert other.push(item(a, ends=True), "eos", step=0) == ("", False)
    assert other.result("eos", step_seconds=[1.0], encode_seconds=0.0).text == ""


def test_a_row_that_joined_late_counts_from_its_own_first_step() -> None:
    one = row(codec=None, first_step=2)
    for step in (2, 4):
        one.push(item(1), None, step=step)
    timings = one.result("length", step_seconds=[1.0, 2.0, 4.0, 8.0, 16.0, 32.0], encode_seconds=0.0).timings
    assert timings.time_to_first_token == 4.0
    assert timings.decode_seconds == pytest.approx(24.0)
    assert timings.decode_steps == 1


def test_log_probabilities_get_the_texts_of_their_tokens() -> None:
    one = row(logprobs=1)
    a = CODEC.encode("a", special_tokens=False)[0]
    one.push(item(a, logprobs=TokenLogprobs(token=a, logprob=-0.5, top=((a, -0.5),))), "length", step=0)
    (record,) = one.result("length", step_seconds=[1.0], encode_seconds=0.0).logprobs or ()
    assert (record.text, record.top_texts) == ("a", ("a",))
