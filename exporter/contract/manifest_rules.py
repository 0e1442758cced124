"""What the entries of a manifest may be: types and ranges, before anything is done with them.

Standard library only. A manifest comes with a folder from anywhere; what is not checked here reaches a runtime.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, TypeGuard

_LARGEST = 1 << 40  # beyond any size, count of parameters or of positions; keeps arithmetic on them small


def manifest_problems(data: Mapping[str, Any]) -> list[str]:
    """Every entry of a manifest, as JSON gave it, that is missing or not of its kind, in words; empty when it is sound.

    The signature's own entries are checked by `exporter.contract.signature.Signature.from_dict`.
    """
    problems = [
        f"{name} is {_shown(data.get(name))} instead of {kind}"
        for name, (kind, fits) in _SECTIONS.items()
        if name in data and not fits(data[name])
    ]
    model = data.get("model")
    if isinstance(model, Mapping):
        problems += [
            f"model.{name} is {_shown(model[name])} instead of {kind}"
            for name, (kind, fits) in _FACTS.items()
            if name in model and not fits(model[name])
        ]
        problems += _token_problems(model)
        vectors = model.get("embedding")
        if isinstance(vectors, Mapping):
            problems += [
                f"model.embedding.{name} is {_shown(vectors[name])} instead of {kind}"
                for name, (kind, fits) in _VECTORS.items()
                if name in vectors and not fits(vectors[name])
            ]
    files = data.get("files")
    if isinstance(files, Mapping):
        problems += [f"files.{name} is {_shown(record)}" for name, record in files.items() if not _is_record(record)]
    return problems


def _token_problems(model: Mapping[str, Any]) -> list[str]:
    """Special tokens that are no ids below the vocabulary's size."""
    size, eos = model.get("vocab_size"), model.get("eos")
    if not _is_count(size) or not isinstance(eos, list):
        return []
    single = ("bos", "pad", "mask", "decoder_start", "forced_bos", "forced_eos")
    suppressed = model.get("suppressed", ())
    listed = [("eos", eos), ("suppressed", suppressed if isinstance(suppressed, list) else ())]
    ids = [*((role, model.get(role)) for role in single), *((name, one) for name, several in listed for one in several)]
    return [
        f"model.{name} names {_shown(one)} instead of an id below {size}"
        for name, one in ids
        if not ((_is_integer(one) and 0 <= one < size) or (one is None and name in single))
    ]


def _is_integer(value: Any) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool)


def _is_count(value: Any) -> TypeGuard[int]:
    return _is_integer(value) and 0 < value <= _LARGEST


def _is_text(value: Any) -> bool:
    return isinstance(value, str)


def _is_list_of_texts(value: Any) -> bool:
    return isinstance(value, list) and all(map(_is_text, value))


def _is_object(value: Any) -> bool:
    return isinstance(value, Mapping)


def _is_gate(value: Any) -> bool:
    """An empty record, or one with a verdict and checks."""
    if not isinstance(value, Mapping):
        return False
    checks = value.get("checks", [])
    return isinstance(value.get("accepted", True), bool) and _is_list_of_objects(checks)


def _is_list_of_objects(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(one, Mapping) for one in value)


def _is_source(value: Any) -> bool:
    """Texts or nothing where a runtime or the gate reads them, and hashes under ``files``."""
    if not isinstance(value, Mapping):
        return False
    files = value.get("files", {})
    texts = all(isinstance(value.get(name), (str, type(None))) for name in ("kind", "name", "revision"))
    return texts and isinstance(files, Mapping) and all(isinstance(record, Mapping) for record in files.values())


def _is_record(value: Any) -> bool:
    if not isinstance(value, Mapping) or set(value) != {"size", "sha256"}:
        return False
    return _is_integer(value["size"]) and value["size"] >= 0 and isinstance(value["sha256"], str)


def _shown(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else f"{text[:40]} ..."


_Rule = tuple[str, Callable[[Any], bool]]
_SECTIONS: dict[str, _Rule] = {
    "target": ("a text", _is_text),
    "precision": ("a text", _is_text),
    "model": ("an object", _is_object),
    "signature": ("an object", _is_object),
    "recipe": ("a list of objects", _is_list_of_objects),
    "gate": ("the record of a gate", _is_gate),
    "quantization": ("an object", _is_object),
    "source": ("the record of a source", _is_source),
    "versions": ("texts by name", lambda value: _is_object(value) and all(map(_is_text, value.values()))),
    "files": ("an object", _is_object),
}
_FACTS: dict[str, _Rule] = {
    "architecture": ("a text", _is_text),
    "vocab_size": ("a count", _is_count),
    "max_positions": ("a count or null", lambda value: value is None or _is_count(value)),
    "layers": ("a number from 0", lambda value: _is_integer(value) and value >= 0),
    "parameters": ("a number from 0", lambda value: _is_integer(value) and value >= 0),
    "max_source_positions": ("a count or null", lambda value: value is None or _is_count(value)),
    "eos": ("a list of ids", lambda value: isinstance(value, list)),
    "suppressed": ("a list of ids", lambda value: isinstance(value, list)),
    "labels": ("a list of texts", _is_list_of_texts),
    "embedding": ("an object or null", lambda value: value is None or _is_object(value)),
}
_VECTORS: dict[str, _Rule] = {
    "dimensions": ("a count", _is_count),
    "normalized": ("true or false", lambda value: isinstance(value, bool)),
    "pooling": ("a list of texts", _is_list_of_texts),
    "prompts": ("texts by name", lambda value: _is_object(value) and all(map(_is_text, value.values()))),
    "default_prompt": ("a text or null", lambda value: value is None or _is_text(value)),
    "similarity": ("a text", _is_text),
}
