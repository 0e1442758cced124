"""Reads the JSON files of a checkpoint, which are untrusted."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.placeholders import refuse_placeholder
from jisu.exporter.sources.reason import reason_of

# Vocabularies: large, and of a token that is listed twice the tokenizers package takes the last.
_TABLES = ("tokenizer.json", "vocab.json", "added_tokens.json")
_SURROGATE = r"\ud"  # how JSON spells halves of a pair


def read_json(path: Path) -> dict[str, Any]:
    """The object in a JSON file.

    Raises:
        InputError: the file cannot be read, is not JSON, holds something else than an object, or states a key twice
            with different values.
    """
    data: dict[str, Any] = _read(path, dict, "a JSON object")
    return data


def read_json_list(path: Path) -> list[Any]:
    """The list in a JSON file; raises as `read_json` does."""
    data: list[Any] = _read(path, list, "a JSON list")
    return data


def _read(path: Path, kind: type, allowed: str) -> Any:
    is_table = path.name in _TABLES
    hook = None if is_table else _without_contradictions
    refuse_placeholder(path)
    try:
        text = path.read_text(encoding="utf-8")
        data = json.loads(text, object_pairs_hook=hook)
        if not is_table and _SURROGATE in text.lower():
            _check_unicode(data)
    except OSError as error:
        raise InputError(
            f"{path} cannot be read",
            received=error.strerror or error,
            allowed="a file that may be read",
            fix="Check the path and its permissions.",
        ) from error
    except (ValueError, RecursionError) as error:
        raise InputError(
            f"{path} is not valid JSON",
            received=reason_of(error),
            allowed=allowed,
            fix="Download or convert the checkpoint again.",
        ) from error
    if not isinstance(data, kind):
        raise InputError(
            f"{path} does not hold {allowed}",
            received=type(data).__name__,
            allowed=allowed,
            fix="Download or convert the checkpoint again.",
        )
    return data


def _check_unicode(data: Any) -> None:
    """Raise ValueError for half of a pair of surrogates, which no manifest could hold."""
    try:
        json.dumps(data, ensure_ascii=False).encode()
    except UnicodeEncodeError as error:
        raise ValueError(f"a lone surrogate, {error.object[error.start]!r}, which is no Unicode text") from error


def _without_contradictions(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    content: dict[str, Any] = {}
    for key, value in pairs:
        if key in content and content[key] != value:
            raise ValueError(f"{key!r} is stated twice, as {content[key]!r} and as {value!r}")
        content[key] = value
    return content


def refuse_remote_code(config: dict[str, Any], path: Path) -> None:
    """Raise InputError when a checkpoint's configuration names Python code to run."""
    if config.get("auto_map"):
        raise InputError(
            f"The checkpoint needs remote code: {path} has an auto_map entry",
            received=config["auto_map"],
            allowed="models whose code is part of transformers; code from a checkpoint is never run",
            fix="Remove auto_map from the file if transformers knows this model type itself.",
        )
