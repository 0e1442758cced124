"""A user's own `nn.Module` as a source: handed over from Python, or made by a factory that the user names.

This is the one kind of checkpoint that runs code, because it is code: nothing but what the user named is imported.
"""

from __future__ import annotations

import difflib
import importlib
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.calibration.text.fingerprint import model_fingerprint
from jisu.exporter.contract.artifact import ModelFacts
from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.evaluation_mode import evaluation_mode
from jisu.exporter.sources.facts import describe_model, describe_text_to_text, weight_bytes
from jisu.exporter.sources.given_tokenizer import read_tokenizer
from jisu.exporter.sources.heads import Head, classifier_head, column_names
from jisu.exporter.sources.model import decoder_class
from jisu.exporter.sources.module_behaviour import check_behaviour, find_longest
from jisu.exporter.sources.module_call import ModuleCall, inspect_call
from jisu.exporter.sources.module_kind import is_of_transformers
from jisu.exporter.sources.provenance import record_origin
from jisu.exporter.sources.reason import reason_of
from jisu.exporter.sources.source import Source
from jisu.exporter.sources.token_heads import head_of_class
from jisu.exporter.sources.tokenizer import check_ids, check_template

if TYPE_CHECKING:
    from torch import nn

_ROLES = ("bos", "eos", "pad")
# The entry of the provenance that stands for files, which a module does not have.
PARAMETERS = "parameters"


def load_factory(path: str, *, tokenizer: Any = None) -> Source:
    """Call ``package.module:factory`` and make a source of the module that it returns.

    The current folder is importable, as with ``python -m``.

    Raises:
        InputError: the path does not import, the factory fails or does not return a module; or see `source_of_module`.
    """
    module_name, _, name = path.partition(":")
    here = str(Path.cwd())
    if here not in sys.path:
        sys.path.insert(0, here)
    try:
        package = importlib.import_module(module_name)
    except (Exception, SystemExit) as error:  # the user's own code may raise anything
        raise InputError(
            f"The factory {path} cannot be imported",
            received=reason_of(error),
            allowed="package.module:factory, importable from the current folder or installed",
            fix="Check the spelling, and that `python -c 'import " + module_name + "'` works here.",
        ) from error
    factory = getattr(package, name, None)
    if not callable(factory):
        near = difflib.get_close_matches(name, [one for one in dir(package) if callable(getattr(package, one))], n=1)
        raise InputError(
            f"There is no factory {name} in {module_name}",
            received="nothing of that name" if factory is None else type(factory).__name__,
            allowed="a function without arguments that returns an nn.Module",
            fix=f"Did you mean {near[0]}?" if near else "Name the function that builds the module.",
        )
    try:
        made = factory()
    except (Exception, SystemExit) as error:
        raise InputError(
            f"The factory {path} fails",
            received=reason_of(error),
            allowed="a function without arguments that returns an nn.Module",
            fix="Call it from Python to see where.",
        ) from error
    return source_of_module(made, tokenizer=tokenizer, kind="factory", name=path)


def source_of_module(module: Any, *, tokenizer: Any = None, kind: str = "module", name: str | None = None) -> Source:
    """A source around a module, which stays the caller's: no weight of it is copied or changed.

    What a module does not show by itself it may say in attributes: ``labels`` (a sequence of texts), ``max_positions``,
    ``bos_token_id``, ``eos_token_id`` (one or several) and ``pad_token_id``. Without them, ids come from the tokenizer.

    Args:
        module: see `exporter.sources.module_call.ALLOWED_FORMS`; or a model of transformers with the head of its kind.
        tokenizer: see `exporter.sources.given_tokenizer.read_tokenizer`.
        kind, name: for the provenance.

    Raises:
        InputError: it is no module, not in float32 on the CPU, is called in an unknown way, breaks what its way of
            being called promises, or does not fit its tokenizer.
    """
    import torch
    from torch import nn

    if not isinstance(module, nn.Module):
        raise InputError(
            f"{name or 'What was given'} is not a module"
            if kind == "module"
            else f"The factory {name} does not return a module",
            received=type(module).__name__,
            allowed="an nn.Module",
            fix="Return or pass the module itself.",
        )
    architecture = type(module).__name__
    if isinstance(module, torch.jit.ScriptModule):
        raise InputError(
            f"{architecture} is a compiled script, which cannot be traced again",
            received="a torch.jit.ScriptModule",
            allowed="the nn.Module that it was made from",
            fix="Pass that one.",
        )
    _check_memory(module)
    read = None if tokenizer is None else read_tokenizer(tokenizer)
    origin = {"kind": kind, "name": name or architecture, "revision": None}
    with evaluation_mode(module):
        facts, model_kind, notes = _described(module, read)
    if read is not None:
        check_ids(read, facts.vocab_size, Path(architecture))
        check_template(read, Path(architecture))
    provenance = record_origin(origin, licence=None, dtypes={"float32"}, files=())
    provenance["files"] = {
        PARAMETERS: {"size": weight_bytes(module), "sha256": model_fingerprint(module, buffers=True)}
    }
    return Source(
        module=module,
        model=facts,
        tokenizer=read,
        provenance=provenance,
        weight_bytes=weight_bytes(module),
        model_kind=model_kind,
        notes=notes,
    )


def _described(module: Any, tokenizer: Any | None) -> tuple[ModelFacts, Any, tuple[str, ...]]:
    """(facts, model_kind, what the user should know) of a module in evaluation mode."""
    if is_of_transformers(module):
        from transformers import (
            MODEL_FOR_CAUSAL_LM_MAPPING,
            MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING,
            MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING,
        )

        if type(module) in set(_flat(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING.values())):
            head = classifier_head(type(module), module.config, Path(type(module).__name__))
            return head.describe(module, tokenizer, Path()), head.kind, ()
        per_token = head_of_class(type(module))
        if per_token is not None and type(module) not in set(_flat(MODEL_FOR_CAUSAL_LM_MAPPING.values())):
            named = column_names(per_token, module.config, Path(type(module).__name__))
            head = Head(kind=per_token, model_class=type(module), labels=named)
            return head.describe(module, tokenizer, Path()), head.kind, ()
        if type(module) in set(_flat(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING.values())):
            facts = describe_text_to_text(module, tokenizer, Path(type(module).__name__))
            return facts, "text2text-generation", ()
        if type(module) not in set(_flat(MODEL_FOR_CAUSAL_LM_MAPPING.values())):
            raise InputError(
                f"{type(module).__name__} is not a class that can be exported",
                received="a module of transformers without a head for one of these",
                allowed="a causal language model, one that turns texts into others, or a classifier of texts",
                fix="Pass the class of the task, such as AutoModelForCausalLM loads.",
            )
        decoder_class(module.config, Path(type(module).__name__))
        return describe_model(module, tokenizer), "text-generation", ()
    from jisu.calibration.model.whole_sequences import has_state
    from jisu.exporter.sources.layers import find_layers

    call = inspect_call(module)
    generates = call.model_kind == "text-generation"
    positions = _whole(module, "max_positions") or find_longest(module, call.position_tables)
    vocab_size = _vocab_size(module, call, tokenizer)
    check_behaviour(module, vocab_size=vocab_size, max_positions=positions, generates=generates)
    stack = find_layers(module)
    ids = {role: _token_ids(module, tokenizer, role, vocab_size) for role in _ROLES}
    facts = ModelFacts(
        architecture=type(module).__name__,
        vocab_size=vocab_size,
        max_positions=positions,
        layers=0 if stack is None else stack.total,
        parameters=sum(parameter.numel() for parameter in module.parameters()),
        bos=next(iter(ids["bos"]), None),
        eos=ids["eos"],
        pad=next(iter(ids["pad"]), None),
        labels=() if generates else _labels(module, call.columns),
    )
    again = "The model carries no state: every new token runs the whole text before it again."
    return facts, call.model_kind, (again,) if generates and not has_state(module) else ()


def _vocab_size(module: Any, call: ModuleCall, tokenizer: Any | None) -> int:
    """How many token ids the module takes."""
    rows = call.embedding_rows
    if call.model_kind == "text-generation":
        if rows is not None and rows < call.columns:
            raise InputError(
                f"{type(module).__name__} can predict tokens that its embedding does not have",
                received=f"logits for {call.columns} tokens, an embedding of {rows} rows",
                allowed="a row of the embedding for each token of the logits",
                fix="Make the embedding as large as the output.",
            )
        return call.columns
    if rows is None and tokenizer is None:
        raise InputError(
            f"The vocabulary size of {type(module).__name__} cannot be determined",
            received="a classifier that looks its tokens up in no nn.Embedding, without a tokenizer",
            allowed="an nn.Embedding that reads the token ids, or a tokenizer",
            fix="Pass the tokenizer.",
        )
    return len(tokenizer) if rows is None and tokenizer is not None else int(rows or 0)


def _labels(module: Any, columns: int) -> tuple[str, ...]:
    labels: Any = getattr(module, "labels", None)
    if labels is None:
        return tuple(f"label_{number}" for number in range(columns))
    texts = isinstance(labels, (list, tuple)) and all(isinstance(one, str) for one in labels)
    if not texts or len(labels) != columns or len(set(labels)) != columns:
        raise InputError(
            f"The labels of {type(module).__name__} do not name its logits",
            received=repr(labels)[:200],
            allowed=f"{columns} different texts, one for each column",
            fix="Correct the module's attribute labels.",
        )
    return tuple(labels)


def _token_ids(module: Any, tokenizer: Any | None, role: str, vocab_size: int) -> tuple[int, ...]:
    """Ids of a special token: those that the module names, else the tokenizer's."""
    name = f"{role}_token_id"
    stated: Any = getattr(module, name, None)
    ids = list(stated) if isinstance(stated, (list, tuple, set)) else [] if stated is None else [stated]
    wrong = [one for one in ids if not isinstance(one, int) or isinstance(one, bool) or not 0 <= one < vocab_size]
    if wrong:
        raise InputError(
            f"The attribute {name} of {type(module).__name__} does not name a token",
            received=wrong,
            allowed=f"ids from 0 to {vocab_size - 1}",
            fix="Correct it, or leave it to the tokenizer.",
        )
    if not ids and tokenizer is not None and (known := getattr(tokenizer, name, None)) is not None:
        ids = [known]
    return tuple(dict.fromkeys(ids))


def _whole(module: Any, name: str) -> int | None:
    value: Any = getattr(module, name, None)
    if value is not None and (not isinstance(value, int) or isinstance(value, bool) or value < 1):
        raise InputError(
            f"The attribute {name} of {type(module).__name__} is not a number of tokens",
            received=repr(value),
            allowed="a whole number from 1, or None for any number",
            fix="Correct it.",
        )
    return value


def _check_memory(module: nn.Module) -> None:
    kinds = {(str(parameter.dtype), parameter.device.type) for parameter in module.parameters()}
    wrong = sorted(kinds - {("torch.float32", "cpu")})
    if wrong or not kinds:
        raise InputError(
            f"The parameters of {type(module).__name__} are not ready to be exported",
            received=", ".join(f"{dtype.removeprefix('torch.')} on {device}" for dtype, device in wrong) or "none",
            allowed="float32 on the CPU, from which every precision is made",
            fix="Pass module.float().cpu(), or a copy of it." if kinds else "Pass the module that holds the weights.",
        )


def _flat(classes: Sequence[Any]) -> Iterator[Any]:
    for one in classes:
        yield from one if isinstance(one, tuple) else (one,)
