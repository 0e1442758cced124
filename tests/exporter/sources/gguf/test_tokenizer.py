"""The tokenizer of a GGUF file splits and merges as the file says, or the file is refused by what it says."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.gguf.header import read_gguf_header
from jisu.exporter.sources.gguf.splits import NOT_BYTE_LEVEL, RULES
from jisu.exporter.sources.gguf.tokenizer import build_gguf_tokenizer, state_tokenizer
from tests.support.gguf_models import add_value

gguf = pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")

_TEXTS = (
    "the year 2024 has 366 days; call self.get(name) or (self)\n\n",
    "12345 + 67890 = 80235, don't DON'T I'LL we'll",
    "def add(a, b):\n\treturn a+b\n\n\n  x",
    "HelloWorld naïve Straße 你好，世界！2024年 नमस्ते १२३ 🚀",
)


def _write(path: Path, **settings: Any) -> Path:
    writer = gguf.GGUFWriter(str(path), str(settings.pop("architecture", "llama")))
    for key, value in settings.items():
        add_value(writer, f"tokenizer.{key}" if key == "chat_template" else f"tokenizer.ggml.{key}", value)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _build(path: Path, **settings: Any) -> Any:
    return build_gguf_tokenizer(read_gguf_header(_write(path / "model.gguf", **settings)))


def _trained(patterns: Sequence[str]) -> Any:
    from tokenizers import Regex, Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.Sequence(
        [
            *(pre_tokenizers.Split(Regex(pattern), "isolated") for pattern in patterns),
            pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    trainer = trainers.BpeTrainer(
        vocab_size=420, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    backend.train_from_iterator([*_TEXTS * 20, *(str(number * 7919) for number in range(300))], trainer)
    return backend


def _byte_level(backend: Any, *, pre: str | None, **settings: Any) -> dict[str, Any]:
    model = json.loads(backend.to_str())["model"]
    tokens = sorted(model["vocab"], key=model["vocab"].get)
    merges = [merge if isinstance(merge, str) else " ".join(merge) for merge in model["merges"]]
    return {
        "model": "gpt2",
        "pre": pre,
        "tokens": [*tokens, "<|im_end|>", "<tool>", "<｜end▁of▁sentence｜>"],
        "token_type": [*[1] * len(tokens), 3, 4, 3],
        "merges": merges,
        **settings,
    }


# What each name's own tokenizer publishes, written out once more for a few of them.
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*"
    r"|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_PUBLISHED = {
    "gpt-2": (r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+",),
    "llama-bpe": (_LLAMA3,),
    "stablelm2": (_LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}"),),
    "starcoder": (r"\p{N}", r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"),
    "bloom": (r" ?[^(\s|[.,!?…。，、।۔،])]+",),
    "deepseek-coder": (r"[\r\n]", r"\s?\p{L}+", r"\s?\p{P}+", r"[一-龥ࠀ-一가-퟿]+", r"\p{N}"),
}


@pytest.mark.parametrize("name", _PUBLISHED)
def test_a_rule_s_name_gives_the_ids_of_its_tokenizer(name: str, tmp_path: Path) -> None:
    original = _trained(_PUBLISHED[name])
    tokenizer = _build(tmp_path, **_byte_level(original, pre=name))
    for text in _TEXTS:
        expected = original.encode(text, add_special_tokens=False).ids
        assert tokenizer(text, add_special_tokens=False).input_ids == expected
        assert tokenizer.decode(expected) == text


def test_every_rule_compiles_and_loses_no_text() -> None:
    from tokenizers import Regex, pre_tokenizers

    assert len(RULES) > 80
    assert not set(RULES) & set(NOT_BYTE_LEVEL)
    for name, rule in RULES.items():
        splits = pre_tokenizers.Sequence([pre_tokenizers.Split(Regex(one), "isolated") for one in rule.patterns])
        for text in _TEXTS:
            assert "".join(piece for piece, _ in splits.pre_tokenize_str(text)) == text, name


@pytest.mark.parametrize("pre", ["unheard-of", "gemma4", "Llama-BPE"])
def test_an_unknown_rule_is_refused_by_name(pre: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=f"rule that is not known. Received: tokenizer.ggml.pre '{pre}'"):
        _build(tmp_path, **_byte_level(_trained(_PUBLISHED["gpt-2"]), pre=pre))


def test_control_and_user_defined_tokens_are_found_whole(tmp_path: Path) -> None:
    tokenizer = _build(tmp_path, **_byte_level(_trained(_PUBLISHED["gpt-2"]), pre="gpt-2"))
    last = len(tokenizer) - 1
    ids = tokenizer("x<|im_end|><tool><｜end▁of▁sentence｜>", add_special_tokens=False).input_ids
    assert ids[-3:] == [last - 2, last - 1, last]
    assert tokenizer.decode(ids, skip_special_tokens=True) == "x<tool>"


def test_a_word_that_is_a_token_stays_whole_where_the_rule_says_so(tmp_path: Path) -> None:
    backend = _trained(_PUBLISHED["llama-bpe"])
    settings = _byte_level(backend, pre="llama-bpe")
    settings["tokens"][300] = "qzqzqz"  # a token that no merges lead to
    settings["merges"] = [one for one in settings["merges"] if set("".join(one.split(" "))) <= set("the ")]
    assert _build(tmp_path, **settings)("qzqzqz", add_special_tokens=False).input_ids == [300]
    settings["pre"] = "dbrx"
    assert len(_build(tmp_path, **settings)("qzqzqz", add_special_tokens=False).input_ids) == 6


@pytest.mark.parametrize(
    ("pre", "flag", "expected"), [("llama-bpe", None, 1), ("llama-bpe", False, 0), ("gpt-2", True, 1)]
)
def test_the_flag_or_the_rule_decides_what_stands_in_front(
    pre: str, flag: bool | None, expected: int, tmp_path: Path
) -> None:
    settings = _byte_level(_trained(_PUBLISHED["gpt-2"]), pre=pre, bos_token_id=420, add_bos_token=flag)
    ids = _build(tmp_path, **settings)("a").input_ids
    assert ids[:-1] == [420] * expected


def test_duplicates_and_merges_of_nothing_are_refused(tmp_path: Path) -> None:
    settings = _byte_level(_trained(_PUBLISHED["gpt-2"]), pre="gpt-2")
    with pytest.raises(InputError, match="the token 'a' twice"):
        _build(tmp_path, **{**settings, "tokens": [*settings["tokens"][:-1], "a"]})
    with pytest.raises(InputError, match="tokens of type 1342177281"):
        _build(tmp_path, **{**settings, "token_type": [*settings["token_type"][:-1], 1342177281]})
    with pytest.raises(InputError, match="the merge 'q zz' of tokens"):
        _build(tmp_path, **{**settings, "merges": ["q zz"]})
    with pytest.raises(InputError, match="without merges"):
        _build(tmp_path, **{**settings, "merges": None})
    with pytest.raises(InputError, match="1 types"):
        _build(tmp_path, **{**settings, "token_type": [1]})
    with pytest.raises(InputError, match=r"not known. Received: 'bert'"):
        _build(tmp_path, **{**settings, "model": "bert"})
    assert _build(tmp_path, model="none") is None


_PIECES = ["<unk>", "<s>", "</s>", *(f"<0x{byte:02X}>" for byte in range(256)), "▁", "a", "b", "▁a", "▁ab", "ab", "  "]


def _sentencepiece(**settings: Any) -> dict[str, Any]:
    count = len(_PIECES)
    return {
        "model": "llama",
        "tokens": _PIECES,
        "scores": [0.0] * 259 + [-float(number) for number in range(count - 259)],
        "token_type": [2, 3, 3, *[6] * 256, *[1] * (count - 260), 4],
        **settings,
    }


@pytest.mark.parametrize("prefix", [True, False, None])
def test_a_space_in_front_is_the_file_s_to_say(prefix: bool | None, tmp_path: Path) -> None:
    tokenizer = _build(tmp_path, **_sentencepiece(add_space_prefix=prefix, add_bos_token=False))
    pieces = ["ab"] if prefix is False else ["▁ab"]
    assert tokenizer.tokenize("ab") == pieces
    assert tokenizer.decode(tokenizer("ab é</s>ab").input_ids, skip_special_tokens=False).startswith("ab é</s>")


def test_what_no_piece_spells_is_spelled_in_bytes(tmp_path: Path) -> None:
    tokenizer = _build(tmp_path, **_sentencepiece(add_space_prefix=False))
    assert tokenizer.tokenize("é") == ["<0xC3>", "<0xA9>"]
    assert tokenizer("ab").input_ids[0] == 1  # llama.cpp puts <s> in front unless the file forbids it


def test_gemma_s_merges_are_the_file_s(tmp_path: Path) -> None:
    settings = {**_sentencepiece(), "model": "gemma4", "merges": ["a b", "▁ ab"], "unknown_token_id": 0}
    tokenizer = _build(tmp_path, **settings, architecture="gemma4", add_bos_token=False)
    assert tokenizer.tokenize("ab ab") == ["ab", "▁ab"]
    with pytest.raises(InputError, match="gemma4 tokenizer without merges"):
        _build(tmp_path, **{**settings, "merges": None})


def test_unigrams_follow_their_scores(tmp_path: Path) -> None:
    settings = {"tokens": ["<pad>", "</s>", "<unk>", "▁", "a", "b", "ab", "▁a"], "token_type": [3, 3, 2, 1, 1, 1, 1, 1]}
    scores = [0.0, 0.0, 0.0, -2.0, -3.0, -3.0, -9.0, -1.0]
    tokenizer = _build(tmp_path, model="t5", scores=scores, **settings)
    assert tokenizer("ab").input_ids == [7, 5, 1]
    scores[6] = -0.5
    assert _build(tmp_path, model="t5", scores=scores, **settings)("ab").input_ids == [3, 6, 1]


def test_every_key_is_accounted_for(tmp_path: Path) -> None:
    path = _write(tmp_path / "m.gguf", **_sentencepiece(fim_pre_token_id=5, of_next_year=1, add_sep_token=False))
    account = state_tokenizer(Account(), read_gguf_header(path))
    assert account.names("unread") == ["tokenizer.ggml.of_next_year"]
    assert len(account.statements) == 7
