from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.tokenizer import load_folder_tokenizer
from jisu.exporter.sources.tokenizer_rules import follow_stated_rules
from tests.support.models import llama_config, tiny_tokenizer

pytest.importorskip("transformers", reason="tokenizers are loaded by transformers")
TEXT = "Hello  World, 12345 you don't\n\t你好 🚀"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny_tokenizer().save_pretrained(str(tmp_path))
    llama_config().save_pretrained(str(tmp_path))
    return tmp_path


def _edit(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    data = json.loads(path.read_text()) if path.exists() else {}
    change(data)
    path.write_text(json.dumps(data))


def _followed(folder: Path) -> tuple[Account, Any]:
    return follow_stated_rules(Account(), load_folder_tokenizer(folder, None), folder)


def _splitting(data: dict[str, Any]) -> None:
    split = {"type": "Split", "pattern": {"Regex": r"\p{N}|\s+|\p{L}+"}, "behavior": "Isolated", "invert": False}
    data["pre_tokenizer"] = {
        "type": "Sequence",
        "pretokenizers": [split, {**data["pre_tokenizer"], "use_regex": False}],
    }


def _lowercase(data: dict[str, Any]) -> None:
    data["normalizer"] = {"type": "Lowercase"}


def test_files_that_agree_are_used_and_nothing_is_told(folder: Path) -> None:
    account, _ = _followed(folder)
    assert {one.fate for one in account.statements} == {"used"}
    assert "tokenizer.json: pre_tokenizer" in account.names("used")
    assert account.notes() == ()


@pytest.mark.parametrize("tokenizer_class", ["GPT2Tokenizer", "Qwen2Tokenizer", "PreTrainedTokenizerFast"])
@pytest.mark.parametrize("change", [_splitting, _lowercase])
def test_the_rules_of_the_file_go_before_those_of_the_class(
    folder: Path, tokenizer_class: str, change: Callable[[dict[str, Any]], object]
) -> None:
    from tokenizers import Tokenizer

    _edit(folder / "tokenizer.json", change)
    _edit(folder / "tokenizer_config.json", lambda data: data.update(tokenizer_class=tokenizer_class))
    expected = Tokenizer.from_file(str(folder / "tokenizer.json")).encode(TEXT, add_special_tokens=False).ids
    account, tokenizer = _followed(folder)
    assert tokenizer(TEXT, add_special_tokens=False).input_ids == expected
    assert tokenizer.chat_template == tiny_tokenizer().chat_template
    assert account.names("refused") == []
    replaced = tokenizer_class != "PreTrainedTokenizerFast"
    assert any("tokenizer.json" in note for note in account.notes()) is replaced


@pytest.mark.parametrize(
    ("file", "change", "word"),
    [
        ("added_tokens.json", lambda data: data.update({"<s>": 5}), "added_tokens.json: '<s>' as 5"),
        ("added_tokens.json", lambda data: data.update({"<new>": 7}), "'<new>' as 7"),
        ("tokenizer_config.json", lambda data: data.update(add_prefix_space=True), "add_prefix_space"),
    ],
)
def test_files_that_contradict_the_tokenizer_are_refused(
    folder: Path, file: str, change: Callable[[dict[str, Any]], object], word: str
) -> None:
    _edit(folder / file, change)
    account, _ = _followed(folder)
    assert any(word in name for name in account.names("refused"))
    with pytest.raises(InputError, match="tokenizer"):
        account.refuse(folder)


def test_what_is_decided_between_files_is_told(folder: Path) -> None:
    _edit(folder / "special_tokens_map.json", lambda data: data.update(eos_token={"content": "<pad>"}, bos_token="<s>"))
    _edit(folder / "vocab.json", lambda data: data.update({"<s>": 9}))
    _edit(folder / "chat_template.json", lambda data: data.update(chat_template="{{ other }}"))
    _edit(folder / "tokenizer_config.json", lambda data: data.update(chat_template="{{ messages }}"))
    account, tokenizer = _followed(folder)
    template = "tokenizer_config.json: chat_template"
    assert set(account.names("unread")) == {"eos_token", "vocab.json", "chat_template.json", template}
    assert any(repr(tokenizer.eos_token) in note for note in account.notes())
    assert account.names("refused") == []


def test_an_added_token_that_two_files_describe_differently_is_told(folder: Path) -> None:
    token = {
        "content": "<s>",
        "special": True,
        "lstrip": True,
        "rstrip": False,
        "normalized": False,
        "single_word": False,
    }
    _edit(folder / "tokenizer_config.json", lambda data: data.update(added_tokens_decoder={"0": token}))
    account, _ = _followed(folder)
    assert account.names("unread") == ["tokenizer_config.json: '<s>' lstrip"]
    token["content"] = "<other>"
    _edit(folder / "tokenizer_config.json", lambda data: data.update(added_tokens_decoder={"0": token}))
    assert any("'<other>' as 0" in name or "'<s>' as 0" in name for name in _followed(folder)[0].names("refused"))


def test_a_lowercasing_that_is_stated_both_ways_is_refused(folder: Path) -> None:
    normalizer = {"type": "BertNormalizer", "clean_text": True, "handle_chinese_chars": True, "strip_accents": None}
    rules = {"type": "Sequence", "normalizers": [{**normalizer, "lowercase": True}]}
    _edit(folder / "tokenizer.json", lambda data: data.update(normalizer=rules))
    _edit(folder / "tokenizer_config.json", lambda data: data.update(do_lower_case=False))
    assert _followed(folder)[0].names("refused") == ["tokenizer_config.json: do_lower_case"]


def test_a_first_token_that_is_asked_for_and_not_added_is_told(folder: Path) -> None:
    _edit(folder / "tokenizer_config.json", lambda data: data.update(add_bos_token=True, add_eos_token=False))
    account, _ = _followed(folder)
    assert account.names("unread") == ["tokenizer_config.json: add_bos_token"]
