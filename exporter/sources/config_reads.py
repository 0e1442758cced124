"""Which keys of a configuration transformers' code reads: what its configuration class declares, and what the source
of the model's modules asks for. Found by reading that code, so that it holds for every architecture.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import sys
from collections.abc import Iterator
from functools import lru_cache
from typing import Any

# Read by the generic code of transformers for every model (5.23: masking_utils, modeling_utils, rope utilities).
_GENERIC = frozenset({"is_causal", "per_layer_config", "tie_word_embeddings", "rope_scaling", "rope_parameters"})
# What generic functions read for the models that call them.
_THROUGH = {
    "create_sliding_window_causal_mask": "sliding_window",
    "create_bidirectional_sliding_window_mask": "sliding_window",
    "create_chunked_causal_mask": "attention_chunk_size",
}


def declared_keys(config_class: Any) -> set[str]:
    """The keys that a configuration class takes by name, and the other spellings that it knows for them."""
    names = (
        {field.name for field in dataclasses.fields(config_class)} if dataclasses.is_dataclass(config_class) else set()
    )
    for one in config_class.__mro__:
        init = one.__dict__.get("__init__")
        if init is not None and one is not object:
            names |= set(inspect.signature(init).parameters)
    spellings = dict(getattr(config_class, "attribute_map", {}))
    names |= {*spellings, *spellings.values(), *getattr(config_class, "sub_configs", {})}
    return names - {"self", "args", "kwargs"}


def converted_keys(config_class: Any) -> set[str]:
    """The keys that the source of a configuration class mentions: older spellings, and what it converts."""
    keys = set(_GENERIC)
    for one in config_class.__mro__:
        if one.__module__.startswith("transformers.models."):
            keys |= _strings_of(one.__module__)
    return keys


def model_keys(model: Any) -> set[str]:
    """The keys that the source of a model's modules mentions; the model may be on any device."""
    keys: set[str] = set()
    for name in {type(module).__module__ for module in model.modules()}:
        if name.startswith("transformers.models."):
            keys |= _reads_of(name)
    return keys


@lru_cache
def rope_keys(rope_type: str) -> frozenset[str]:
    """The keys that a kind of rotary positions reads, in transformers' own functions for it."""
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS

    function = ROPE_INIT_FUNCTIONS.get(rope_type)
    keys = {"rope_theta", "rope_type", "type", "partial_rotary_factor"}
    if function is not None:
        keys |= set(_strings(ast.parse(inspect.getsource(function).lstrip())))
    return frozenset(keys)


@lru_cache
def _reads_of(module: str) -> frozenset[str]:
    """Attributes of names that end in ``config``, names asked for by `getattr`, and keys of subscripts."""
    tree = _tree(module)
    keys: set[str] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute) and _last_name(node.value).endswith(("config", "cfg")):
            keys.add(node.attr)
        elif isinstance(node, (ast.Name, ast.Attribute)) and _last_name(node) in _THROUGH:
            keys.add(_THROUGH[_last_name(node)])
    return frozenset(keys | set(_strings(tree)))


@lru_cache
def _strings_of(module: str) -> frozenset[str]:
    tree = _tree(module)
    # A configuration reads its own attributes, too, and what it is given as parameters.
    attributes = {
        node.attr for node in ast.walk(tree) if isinstance(node, ast.Attribute) and _last_name(node.value) == "self"
    }
    return frozenset(attributes | set(_strings(tree)))


def _strings(tree: ast.AST) -> Iterator[str]:
    """Texts that are spelled like a key; docstrings have spaces in them."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node.value.isidentifier():
            yield node.value


def _last_name(node: ast.AST) -> str:
    if isinstance(node, ast.Attribute):
        return node.attr
    return node.id if isinstance(node, ast.Name) else ""


def _tree(module: str) -> ast.AST:
    try:
        return ast.parse(inspect.getsource(sys.modules[module]))
    except (OSError, KeyError, SyntaxError, TypeError):  # without source nothing more is known than the declared keys
        return ast.Module(body=[], type_ignores=[])
