from __future__ import annotations

from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.generation.text import Detokenizer, TextCodec, open_codec, special_token_texts
from tests.runtimes.tiny_text import IM_END, byte_level_tokenizer, metaspace_tokenizer

TEXTS = [
    "hello world",
    "你好，世界",
    "a🎉b",
    "👨‍👩‍👧 family",  # joined by zero-width joiners: several code points
    "mixed 中文 and emoji 🚀🚀 end",
    "  two spaces",
    "naïve café",
]


@pytest.fixture(params=[byte_level_tokenizer, metaspace_tokenizer], ids=["byte level", "metaspace"])
def codec(request: pytest.FixtureRequest) -> TextCodec:
    return TextCodec(request.param())


def pieces_of(codec: TextCodec, ids: list[int], prompt: list[int]) -> list[str]:
    decoder = Detokenizer(codec, prompt)
    return [*(decoder.push(token) for token in ids), decoder.flush()]


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_text_and_break_no_character(codec: TextCodec, text: str) -> None:
    ids = codec.encode(text, special_tokens=False)
    pieces = pieces_of(codec, ids, [])
    assert "".join(pieces) == codec.decode(ids)
    assert not any("\ufffd" in piece for piece in pieces)
    assert len([piece for piece in pieces if piece]) > 1


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_continue_a_prompt(codec: TextCodec, text: str) -> None:
    ids = codec.encode("hello world" + text, special_tokens=False)
    for cut in range(1, len(ids)):
        before = codec.decode(ids[:cut])
        if before.endswith("\ufffd"):
            continue  # a prompt is text: it does not end inside a character
        assert before + "".join(pieces_of(codec, ids[cut:], ids[:cut])) == codec.decode(ids)


def test_rows_within_the_limit_are_whole_and_longer_ones_are_refused_or_cut(codec: TextCodec) -> None:
    short, long = "hello", "hello world hello world"
    limit = len(codec.encode(short, special_tokens=True))
    assert codec.encode_rows([short], limit=limit, truncate=False) == [codec.encode(short, special_tokens=True)]
    assert codec.encode_rows([long], limit=None, truncate=True) == [codec.encode(long, special_tokens=True)]
    with pytest.raises(InputError, match="too long") as caught:
        codec.encode_rows([short, long], limit=limit, truncate=False)
    assert "in text 1, 'hello world hello world'." in str(caught.value)
    assert codec.encode_rows([short, long], limit=limit, truncate=True)[1] == codec.encode_start(long, limit)


def test_a_space_after_a_prompt_is_kept() -> None:
    codec = TextCodec(metaspace_tokenizer())
    hello, world = codec.encode("hello world", special_tokens=False)
    assert "".join(pieces_of(codec, [world], [hello])) == " world"
    assert "".join(pieces_of(codec, [world], [])) == "world"


def test_a_token_that_ends_one_character_and_begins_the_next_waits() -> None:
    codec = TextCodec(byte_level_tokenizer())
    ids = codec.encode("你好", special_tokens=False)
    assert len(ids) < len("你好".encode())
    pieces = pieces_of(codec, ids, [])
    assert [piece for piece in pieces if piece] == ["你好"]


def test_unfinished_bytes_at_the_end_become_a_replacement_character(codec: TextCodec) -> None:
    ids = codec.encode("a你", special_tokens=False)[:-1]
    pieces = pieces_of(codec, ids, [])
    assert pieces[-1].startswith("\ufffd")
    assert "".join(pieces).startswith("a\ufffd")


def test_bytes_that_are_no_text_do_not_hold_back_what_follows(codec: TextCodec) -> None:
    broken = codec.encode("你", special_tokens=False)[-2:-1]
    pieces = pieces_of(codec, [*broken, *codec.encode("ab", special_tokens=False)], [])
    assert "".join(pieces).replace("\ufffd", "").strip() == "ab"
    assert pieces[-1] == ""


def test_special_tokens_have_no_text() -> None:
    tokenizer = byte_level_tokenizer()
    codec = TextCodec(tokenizer)
    ids = [tokenizer.token_to_id(IM_END), *codec.encode("a", special_tokens=False)]
    assert pieces_of(codec, ids, []) == ["", "a", ""]


def test_truncation_and_padding_of_the_file_are_not_obeyed() -> None:
    tokenizer = byte_level_tokenizer()
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=9)
    assert len(TextCodec(tokenizer).encode("abcd", special_tokens=False)) == 4


def test_a_folder_without_a_tokenizer_has_no_codec(tmp_path: Path) -> None:
    assert open_codec(tmp_path) is None
    assert special_token_texts(tmp_path) == {}


def test_a_broken_tokenizer_is_named(tmp_path: Path) -> None:
    (tmp_path / "tokenizer.json").write_text("{}", encoding="utf-8")
    with pytest.raises(InputError, match=r"tokenizer\.json cannot be read"):
        open_codec(tmp_path)


def test_special_tokens_may_be_text_or_records(tmp_path: Path) -> None:
    config = '{"bos_token": {"content": "<s>"}, "eos_token": "</s>", "pad_token": null, "other": "x"}'
    (tmp_path / "tokenizer_config.json").write_text(config, encoding="utf-8")
    assert special_token_texts(tmp_path) == {"bos_token": "<s>", "eos_token": "</s>"}


@pytest.mark.parametrize("text", ["hello world", "  two spaces", "a b!"])
def test_texts_of_tokens_join_to_the_text(codec: TextCodec, text: str) -> None:
    ids = codec.encode(f"b {text}", special_tokens=False)
    first = codec.encode("b", special_tokens=False)
    assert ids[: len(first)] == first
    pieces = [codec.token_text(token, ids[:at]) for at, token in enumerate(ids) if at >= len(first)]
    assert "".join(pieces) == f" {text}"


def test_a_part_of_a_character_reads_as_a_replacement() -> None:
    codec = TextCodec(byte_level_tokenizer())
    ids = codec.encode("é🎉", special_tokens=False)
    assert {codec.token_text(token, ids[:at]) for at, token in enumerate(ids)} == {"\N{REPLACEMENT CHARACTER}"}
