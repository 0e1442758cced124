"""Loads a GGUF file: configuration, tokenizer and weights all come from the one file."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.exporter.sources.account import Account, is_ignored
from jisu.exporter.sources.facts import check_token_ids, describe_model, vocab_size, weight_bytes
from jisu.exporter.sources.gguf.config import read_config
from jisu.exporter.sources.gguf.generation import END_OF_TURN, set_generation, state_generation
from jisu.exporter.sources.gguf.header import GgufHeader
from jisu.exporter.sources.gguf.parts import files_of, read_gguf
from jisu.exporter.sources.gguf.rotary import LONG_FACTORS, SHORT_FACTORS, check_rotary
from jisu.exporter.sources.gguf.tokenizer import build_gguf_tokenizer, state_tokenizer
from jisu.exporter.sources.gguf.weights import GgufWeight, lazy_weights, read_tensor
from jisu.exporter.sources.linear_layers import use_linear_layers
from jisu.exporter.sources.model import (
    build_empty,
    count_elements,
    decoder_class,
    finish,
    load_weights,
    refuse_incomplete,
    refuse_unfinished,
    shorten,
)
from jisu.exporter.sources.outline import outline_source
from jisu.exporter.sources.paged_weights import moving_into, paged_weights
from jisu.exporter.sources.plausible import check_config
from jisu.exporter.sources.provenance import record_origin
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of
from jisu.exporter.sources.source import Source
from jisu.exporter.sources.tokenizer import check_ids, check_template

# Frequency factors of long-context Llama models: no weight of a module, but divisors of its rotary frequencies.
_ROPE_FACTORS = "rope_freqs.weight"
_ROLES = {
    "tokenizer.ggml.bos_token_id": "bos_token_id",
    "tokenizer.ggml.eos_token_id": "eos_token_id",
    "tokenizer.ggml.padding_token_id": "pad_token_id",
    END_OF_TURN: "eos_token_id",
}


def load_gguf_file(
    path: Path, *, ignore_weights: Sequence[str] = (), outline: bool = False, scratch: Path | None = None
) -> Source:
    """Load a GGUF file, every tensor dequantized to float32, or only what its header says of it.

    Args:
        scratch: see `exporter.sources.load_source`.

    Raises:
        InputError: see `exporter.sources.load_source`.
        MissingDependencyError: the gguf package is not installed.
    """
    _require_gguf()
    account, header = _leave_out(Account(ignore=tuple(ignore_weights)), read_gguf(path))
    config, keys = read_config(header)
    account = replace(account, statements=(*account.statements, *keys.statements))
    model_class = decoder_class(config, path)
    check_config(config, path, stored=len(header.tensors))
    account.refuse(path)
    empty = build_empty(model_class, config, path)
    check_rotary(empty, header)
    tokenizer = build_gguf_tokenizer(header)
    account = state_generation(state_tokenizer(account, header), header)
    account.refuse(path)
    if tokenizer is not None:
        check_ids(tokenizer, vocab_size(empty), path)
        check_template(tokenizer, path)
    check_token_ids(({role: header.fields.get(key)} for key, role in _ROLES.items()), vocab_size(empty), path)
    own_loader = _has_own_loader(header.architecture)
    weights = {} if own_loader else _match_weights(header, empty)
    account = _state_tensors(account, header)
    if outline:
        return outline_source(empty, tokenizer, {"kind": "gguf", "name": str(path)}, account=account)
    if own_loader and len(files_of(header)) > 1:
        raise InputError(
            f"{path} is split into parts, which are not read for its architecture",
            received=f"{header.architecture}, {len(files_of(header))} parts",
            allowed="one file",
            fix="Join the parts with llama-gguf-split --merge.",
        )
    paged = paged_weights(empty, scratch)
    with moving_into(paged):
        if own_loader:
            model = _load_whole(model_class, config, header)
        else:
            lazily = weights if paged is None else paged.lazily(weights)
            model, _ = load_weights(model_class, config, lazily, path)
            _apply_rope_factors(model, header)
        set_generation(model, header)
        use_linear_layers(model)
    return Source(
        module=model,
        model=describe_model(model, tokenizer),
        tokenizer=tokenizer,
        provenance=record_origin(
            {"kind": "gguf", "name": str(path), "revision": None},
            licence=header.fields.get("general.license"),
            dtypes={tensor.type_name for tensor in header.tensors},
            files=files_of(header),
        ),
        weight_bytes=weight_bytes(model),
        account=account,
        paged=paged,
    )


def _leave_out(account: Account, header: GgufHeader) -> tuple[Account, GgufHeader]:
    """The header without the tensors that a pattern of the account leaves out, and the account that says so."""
    kept = []
    for tensor in header.tensors:
        pattern = next((one for one in account.ignore if is_ignored(tensor.name, (one,))), None)
        if pattern is None:
            kept.append(tensor)
        else:
            account = account.state("tensor", tensor.name, fate="ignored", why=pattern, dtype=tensor.type_name)
    return account, replace(header, tensors=tuple(kept))


def _rope_tensors(header: GgufHeader) -> tuple[str, ...]:
    """Tensors that are no weight of a module but are read with the configuration, or after it."""
    return (_ROPE_FACTORS, LONG_FACTORS, SHORT_FACTORS) if header.architecture == "phi3" else (_ROPE_FACTORS,)


def _state_tensors(account: Account, header: GgufHeader) -> Account:
    """The account with every tensor; one without a place in the model has been refused before."""
    for tensor in header.tensors:
        why = "divisors of the rotary frequencies" if tensor.name in _rope_tensors(header) else ""
        account = account.state("tensor", tensor.name, fate="used", why=why, dtype=tensor.type_name)
    return account


def _match_weights(header: GgufHeader, empty: Any) -> dict[str, GgufWeight]:
    """Which tensors each weight is made of, none of them read yet; refuses what is missing, misshapen or left over."""
    try:
        weights, unused = lazy_weights(header, empty)
    except NotImplementedError as error:
        raise InputError(
            f"The tensor names of {header.path} are unknown to the installed gguf package",
            received=f"architecture {header.architecture!r}",
            allowed="an architecture whose tensors the gguf package names",
            fix="Update the gguf package, or use the model's original Hugging Face folder.",
        ) from error
    _check(header, empty, weights, [name for name in unused if name not in _rope_tensors(header)])
    return weights


def _apply_rope_factors(model: Any, header: GgufHeader) -> None:
    for tensor in header.tensors:
        if tensor.name == _ROPE_FACTORS and header.architecture != "gemma4":
            _scale_rotary(model, read_tensor(tensor), header.path)


def _check(header: GgufHeader, empty: Any, weights: Any, unused: list[str]) -> None:
    needed = dict(empty.named_parameters(remove_duplicate=False))
    covered = {id(needed[name]) for name in weights if name in needed}
    missing = [name for name, parameter in needed.items() if name not in weights and id(parameter) not in covered]
    # Layouts differ in axes of size one and in order, and merged weights in everything; the count of elements does not.
    misshapen = [
        (name, weight.tensors[0].shape, tuple(needed[name].shape))
        for name, weight in weights.items()
        if name in needed and sum(count_elements(tensor.shape) for tensor in weight.tensors) != needed[name].numel()
    ]
    refuse_incomplete(header.path, missing=missing, misshapen=misshapen)
    _refuse_unplaced(header.path, unused)


def _refuse_unplaced(path: Path, unused: list[str]) -> None:
    if unused:
        raise InputError(
            f"{path} holds {len(unused)} tensors that the model built from its metadata has no place for",
            received=shorten(unused),
            allowed="tensors that transformers knows for this architecture",
            fix="Use the model's original Hugging Face folder instead.",
        )


def _scale_rotary(model: Any, factors: Any, path: Path) -> None:
    """Divide the rotary frequencies by a file's factors, as its own runtime does."""
    import torch

    divisors = torch.from_numpy(factors)
    scaled = 0
    for module in model.modules():
        for name in ("inv_freq", "original_inv_freq"):
            frequencies = getattr(module, name, None)
            if isinstance(frequencies, torch.Tensor) and frequencies.shape == divisors.shape:
                setattr(module, name, frequencies / divisors)
                scaled += 1
    if not scaled:
        raise InputError(
            f"{path} scales rotary frequencies that its model does not have",
            received=f"{_ROPE_FACTORS} with {divisors.numel()} factors",
            allowed="factors for a model with rotary positions of that size",
            fix="Use the model's original Hugging Face folder instead.",
        )


def _load_whole(model_class: Any, config: Any, header: GgufHeader) -> Any:
    """For the few architectures whose tensors transformers converts in another way (5.23: Qwen3.5, LFM2)."""
    import torch
    from transformers import GgufConfig

    try:
        with quiet_transformers():
            model, info = model_class.from_pretrained(
                str(header.path.parent),
                config=config,
                gguf_file=header.path.name,
                quantization_config=GgufConfig(dequantize=True),
                dtype=torch.float32,
                local_files_only=True,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (RuntimeError, ValueError, TypeError, KeyError, NotImplementedError, OSError) as error:
        raise InputError(
            f"The weights of {header.path} cannot be loaded into {model_class.__name__}",
            received=reason_of(error),
            allowed="tensors in the shapes that the configuration asks for",
            fix="Use the model's original Hugging Face folder instead.",
        ) from error
    refuse_unfinished(info, header.path)
    _refuse_unplaced(header.path, sorted(info["unexpected_keys"]))
    return finish(model)


def _has_own_loader(architecture: str) -> bool:
    try:
        from transformers.integrations.gguf.utils import is_gguf_arch_supported
    except ImportError:  # before transformers 5.23 all architectures took the way that we take here
        return False
    return bool(is_gguf_arch_supported(architecture))


def _require_gguf() -> None:
    try:
        import gguf  # noqa: F401
    except ImportError as error:
        raise MissingDependencyError("gguf", extra="export", needed_for="Reading a GGUF file") from error
