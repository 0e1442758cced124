"""Loads the tokenizer of a folder or a GGUF file and checks that the model has a row for each of its ids."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.jsonfile import read_json, refuse_remote_code
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of

# That templates which write the date are shown, so that the same question gives the same prompt.
_DAY = datetime(2025, 1, 1)
# Any of these says that a folder means to have a tokenizer.
TOKENIZER_FILES = (
    "tokenizer.json",
    "tokenizer_config.json",
    "tokenizer.model",
    "sentencepiece.bpe.model",
    "spiece.model",
    "tekken.json",
    "vocab.json",
    "vocab.txt",
)


def load_folder_tokenizer(folder: Path, config: Any) -> Any | None:
    """The fast tokenizer in a folder, or None when the folder has no file of one.

    Raises:
        InputError: the tokenizer is broken, has no fast form, or wants to run code of its own.
    """
    present = [name for name in TOKENIZER_FILES if (folder / name).is_file()]
    if not present:
        return None
    for name in present:
        if name.endswith(".json"):
            refuse_remote_code(read_json(folder / name), folder / name)
    if present == ["tokenizer_config.json"]:
        raise InputError(
            f"The tokenizer in {folder} has no vocabulary",
            received="tokenizer_config.json alone",
            allowed="tokenizer.json or one of the vocabulary files beside it",
            fix="Add tokenizer.json, or remove tokenizer_config.json to export without a tokenizer.",
        )
    from transformers import AutoTokenizer

    fast_file = (folder / "tokenizer.json").is_file()
    try:
        with quiet_transformers():
            tokenizer = AutoTokenizer.from_pretrained(
                str(folder), config=config, local_files_only=True, trust_remote_code=False
            )
    except Exception as error:
        plain = _plain_fast(folder) if fast_file else None
        if plain is None:
            raise _broken(folder, error) from error
        tokenizer = plain
    if fast_file and not getattr(tokenizer, "is_fast", False):
        tokenizer = _plain_fast(folder) or tokenizer
    try:  # settings that only count when something is encoded can be anything
        with quiet_transformers():
            tokenizer.decode(tokenizer.encode("a b"))
    except Exception as error:
        raise _broken(folder, error) from error
    return _with_template(_require_fast(tokenizer, folder), folder)


def _with_template(tokenizer: Any, folder: Path) -> Any:
    """The tokenizer with the template of chat_template.json, which transformers reads for processors only."""
    path = folder / "chat_template.json"
    if path.is_file() and not getattr(tokenizer, "chat_template", None):
        template = read_json(path).get("chat_template")
        if not isinstance(template, str):
            raise InputError(
                f"{path} holds no chat template",
                received=type(template).__name__,
                allowed="a text under the key chat_template",
                fix="Correct the file, or remove it.",
            )
        tokenizer.chat_template = template
    return tokenizer


def _plain_fast(folder: Path) -> Any | None:
    """The tokenizer that tokenizer.json describes, whatever class the folder names: some have no fast form of it."""
    from transformers import PreTrainedTokenizerFast

    try:
        with quiet_transformers():
            return PreTrainedTokenizerFast.from_pretrained(str(folder), local_files_only=True)
    except Exception:  # noqa: BLE001 - what is wrong with the folder, the automatic class has said
        return None


def load_gguf_tokenizer(path: Path, *, tokens: int) -> Any:
    """The tokenizer that a GGUF file describes, with its chat template.

    Args:
        path: of the file.
        tokens: how many tokens the file is known to list.

    Raises:
        InputError: see `exporter.sources.gguf.tokenizer.build_gguf_tokenizer`; or another number of tokens.
    """
    from jisu.exporter.sources.gguf.parts import read_gguf
    from jisu.exporter.sources.gguf.tokenizer import build_gguf_tokenizer

    header = read_gguf(path)
    listed = header.fields.get("tokenizer.ggml.tokens", 0)
    if listed != tokens:
        raise InputError(
            f"The tokenizer of {path} has another size than expected",
            received=f"{listed} tokens",
            allowed=f"{tokens} tokens",
            fix="Use the tokenizer that belongs to this model.",
        )
    return build_gguf_tokenizer(header)


def check_ids(tokenizer: Any, rows: int, checkpoint: Path) -> None:
    """Raise InputError when the tokenizer can produce an id for which the model has no row."""
    ids = tokenizer.get_vocab()
    largest = max(ids.values(), default=-1)
    if largest >= rows:
        token = next(token for token, number in ids.items() if number == largest)
        raise InputError(
            f"The tokenizer of {checkpoint} has more ids than the model has rows",
            received=f"id {largest} for {token!r}",
            allowed=f"ids below {rows}",
            fix="Use the tokenizer that belongs to this model.",
        )


def notes_on_rows(tokenizer: Any, rows: int, checkpoint: Path) -> list[str]:
    """What is said of tokens that were added to a tokenizer and never to its model.

    A text that holds one is refused when it is used; what no text of the model's own needs is no fault of the model.

    Raises:
        InputError: tokens of the vocabulary itself have no rows, or the chat template writes one without.
    """
    ids = tokenizer.get_vocab()
    if max(ids.values(), default=-1) < rows:
        return []
    added = {str(token) for token in tokenizer.added_tokens_decoder.values()}
    without = sorted((token for token, number in ids.items() if number >= rows), key=lambda token: int(ids[token]))
    template = getattr(tokenizer, "chat_template", None)
    text = template if isinstance(template, str) else json.dumps(template or "", ensure_ascii=False)
    if not set(without) <= added or any(token in text for token in without):
        check_ids(tokenizer, rows, checkpoint)
    named = ", ".join(without[:3]) + (f" and {len(without) - 3} more" if len(without) > 3 else "")
    return [f"The model has no rows for tokens that were added to its tokenizer: {named}. Texts with them are refused."]


def check_template(tokenizer: Any, checkpoint: Path) -> None:
    """Raise InputError when the chat template cannot be read, does not end, or refuses a single question."""
    try:
        chat_prompts(tokenizer, ["Hello"])
    except InputError as error:
        raise InputError(
            f"The chat template of {checkpoint} cannot be used",
            received=error,
            allowed="a template that writes a prompt for one question",
            fix="Correct the template, or remove it to export without one.",
        ) from error


def chat_prompts(tokenizer: Any, questions: Sequence[str]) -> list[str] | None:
    """What the chat template makes of single questions, on one and the same day; None where there is no template.

    Raises:
        InputError: the template fails.
    """
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    if not template:
        return None
    from jisu.runtimes.chat.chat_template import ChatTemplate

    special = {name: text for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
    compiled = ChatTemplate(template, special_tokens=special)
    return [compiled.render([{"role": "user", "content": question}], now=_DAY) for question in questions]


def _require_fast(tokenizer: Any, checkpoint: Path) -> Any:
    if not getattr(tokenizer, "is_fast", False):
        raise InputError(
            f"The tokenizer of {checkpoint} has no fast form",
            received=type(tokenizer).__name__,
            allowed="a tokenizer that transformers can save as tokenizer.json",
            fix="Convert it to tokenizer.json first.",
        )
    return tokenizer


def _broken(checkpoint: Path, error: Exception) -> InputError:
    return InputError(
        f"The tokenizer of {checkpoint} cannot be loaded",
        received=reason_of(error),
        allowed="a tokenizer that the installed transformers and tokenizers can read",
        fix="Download or convert the checkpoint again.",
    )
