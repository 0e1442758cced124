"""The tokenizer that a user gives beside a module: a file, a folder, or an object of one of the two common packages."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.jsonfile import read_json, refuse_remote_code
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of

_ALLOWED = "tokenizer.json, its folder, a tokenizers.Tokenizer or a fast tokenizer of transformers"
# How the special tokens of a bare tokenizer are spelled, by their roles; the first one that it has is taken.
SPELLINGS = {
    "bos_token": ("<bos>", "<s>", "[BOS]", "<|bos|>", "<|begin_of_text|>", "<|startoftext|>"),
    "eos_token": ("<eos>", "</s>", "[EOS]", "<|eos|>", "<|end_of_text|>", "<|endoftext|>"),
    "pad_token": ("<pad>", "[PAD]", "<|pad|>", "<|padding|>"),
    "unk_token": ("<unk>", "[UNK]", "<|unk|>"),
}


def read_tokenizer(tokenizer: Any) -> Any:
    """A transformers fast tokenizer of what was given.

    Args:
        tokenizer: a path to ``tokenizer.json`` or to a folder with it, a `tokenizers.Tokenizer`, or a fast tokenizer.
            Special tokens of a bare one are those spelled as in `SPELLINGS`; ``tokenizer_config.json`` beside a file is
            read.

    Raises:
        InputError: there is no such file, it is damaged, or this is no tokenizer.
    """
    import tokenizers
    from transformers import PreTrainedTokenizerBase

    if isinstance(tokenizer, (str, Path)):
        return _from_files(Path(tokenizer))
    if isinstance(tokenizer, tokenizers.Tokenizer):
        return _from_backend(tokenizer)
    if isinstance(tokenizer, PreTrainedTokenizerBase) and tokenizer.is_fast:
        return tokenizer
    raise InputError(
        "This is not a tokenizer that an artifact can store",
        received=type(tokenizer).__name__,
        allowed=_ALLOWED,
        fix="Give one of these.",
    )


def _from_files(path: Path) -> Any:
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    file = path / "tokenizer.json" if path.is_dir() else path
    if not file.is_file():
        raise InputError(
            f"There is no tokenizer at {path}",
            received="a folder without tokenizer.json" if path.is_dir() else "a path with nothing there",
            allowed=_ALLOWED,
            fix="Check --tokenizer.",
        )
    config = file.with_name("tokenizer_config.json")
    try:
        if config.is_file():
            refuse_remote_code(read_json(config), config)
            with quiet_transformers():
                return PreTrainedTokenizerFast.from_pretrained(str(file.parent), local_files_only=True)
        return _from_backend(Tokenizer.from_file(str(file)))
    except InputError:
        raise
    except Exception as error:  # the tokenizers package raises plain Exception
        raise InputError(
            f"The tokenizer {file} cannot be read",
            received=reason_of(error),
            allowed="a file of the tokenizers package",
            fix="Save it again with Tokenizer.save or save_pretrained.",
        ) from error


def _from_backend(backend: Any) -> Any:
    from transformers import PreTrainedTokenizerFast

    fast_class: Any = PreTrainedTokenizerFast
    special = json.loads(backend.to_str())["added_tokens"]
    known = {token["content"] for token in special if token["special"]}
    named = {role: next((text for text in texts if text in known), None) for role, texts in SPELLINGS.items()}
    return fast_class(tokenizer_object=backend, **{role: text for role, text in named.items() if text is not None})
