"""Compares stored tensors that are said to follow from the rest with what they should be: only equal ones are derived.

Frequencies of another base, or a mask of another window, say that the configuration is not the checkpoint's.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any

from jisu.exporter.sources.account import Account, Statement
from jisu.exporter.sources.module_kind import word_embedding
from jisu.exporter.sources.stored_names import StoredName

if TYPE_CHECKING:
    import torch

    from jisu.exporter.sources.stored_weights import LazyWeight

_MASKED = -1e3  # a score below it is masked
_UNLIKELY = 64.0  # no weight is as large; the codes of a scaled float8 matrix reach 448 or 57344
_SMALLEST = 1e-6  # below it, half precision has lost the number's digits


def check_derived(
    account: Account, model: Any, weights: Mapping[str, LazyWeight], matches: Mapping[str, StoredName]
) -> Account:
    """The account with every derived tensor refused that is not what it is said to be.

    Args:
        account: of the checkpoint's tensors, see `exporter.sources.stored_tensors`.
        model: loaded.
        weights: the stored tensors by name.
        matches: what each becomes.
    """
    # Tied weights are one parameter by now: transformers ties those that are equal.
    parameters = {name: id(parameter) for name, parameter in model.named_parameters(remove_duplicate=False)}
    made: dict[int | str, list[str]] = {}
    for name, match in matches.items():
        if match.targets and not match.converted:
            made.setdefault(parameters.get(match.targets[0], match.targets[0]), []).append(name)
    copies = {name: several[0] for several in made.values() for name in several[1:]}
    if one_is_two := _untied(model):
        account = account.remark(one_is_two)
    return replace(
        account,
        statements=tuple(
            _checked(one, model, weights, matches, copies) if one.kind == "tensor" and one.name in weights else one
            for one in account.statements
        ),
    )


def _untied(model: Any) -> str | None:
    """A sentence where the configuration ties the embedding and the head, and the checkpoint holds two that differ."""
    head, embedding = model.get_output_embeddings(), word_embedding(model)
    if not getattr(model.config.get_text_config(), "tie_word_embeddings", False) or head is None or embedding is None:
        return None
    if getattr(head, "weight", None) is getattr(embedding, "weight", None) or not model._tied_weights_keys:
        return None
    return (
        "The configuration ties the output projection to the embedding, and two that differ are stored: both are used."
    )


def _checked(
    one: Statement,
    model: Any,
    weights: Mapping[str, LazyWeight],
    matches: Mapping[str, StoredName],
    copies: Mapping[str, str],
) -> Statement:
    if one.fate == "used" and one.name in copies:
        first = copies[one.name]
        if _equal(weights[first][...], weights[one.name][...]):
            return replace(one, fate="derived", why=f"equal to {first}")
        return replace(one, fate="refused", why=f"another tensor than {first}, which is the same weight")
    if one.fate == "used" and "8_e" in one.dtype.lower():
        largest = float(weights[one.name][...].float().abs().max()) if 0 not in weights[one.name][...].shape else 0.0
        if not largest <= _UNLIKELY:
            return replace(one, fate="refused", why="float8 codes without the scales that belong to them")
        return replace(one, why="float8 numbers, taken as they are: no scales are stored")
    if one.fate == "derived" and not _is_derived(model, matches[one.name].renamed, weights[one.name][...]):
        return replace(one, fate="refused", why=f"{one.why}, but others than the configuration gives")
    return one


def _is_derived(model: Any, name: str, stored: torch.Tensor) -> bool:
    import torch

    last = name.rpartition(".")[2]
    own = dict(model.named_buffers()).get(name)
    if own is not None and own.shape == stored.shape:
        return _close(stored, own)
    if last == "position_ids":
        return bool((stored == torch.arange(stored.shape[-1])).all())
    if last == "token_type_ids":
        return not bool(stored.any())
    frequencies = _frequencies(model)
    if last.endswith("inv_freq"):
        return any(one.shape == stored.shape and _close(stored, one) for one in frequencies)
    if last in ("cos_cached", "sin_cached"):
        return _is_table(stored, frequencies, sine=last == "sin_cached")
    if last == "masked_bias":
        return stored.numel() == 1 and float(stored) < _MASKED
    if last == "bias":
        return _is_causal(stored)
    return False


def _frequencies(model: Any) -> list[torch.Tensor]:
    """Rotary frequencies of the model, as it uses them and before any scaling."""
    import torch

    frequencies = [
        value
        for module in model.modules()
        for key, value in (*module.named_buffers(recurse=False), *vars(module).items())
        if key.endswith("inv_freq") and isinstance(value, torch.Tensor)
    ]
    plain = []
    for config in (model.config, model.config.get_text_config()):
        rotary = getattr(config, "rope_parameters", None) or {}
        groups = [one for one in (rotary, *rotary.values()) if isinstance(one, dict)]
        for base in {one["rope_theta"] for one in groups if isinstance(one.get("rope_theta"), (int, float))}:
            for half in {one.shape[-1] for one in frequencies}:
                plain.append(1.0 / base ** (torch.arange(half, dtype=torch.float32) / half))
    return [*frequencies, *plain]


def _is_table(stored: torch.Tensor, frequencies: list[torch.Tensor], *, sine: bool) -> bool:
    """Whether [..., positions, features] holds the cosines or sines of positions times frequencies."""
    import torch

    if stored.dim() < 2:
        return False
    table = stored.reshape(-1, *stored.shape[-2:])[0].float()
    positions = torch.arange(len(table), dtype=torch.float32)
    # In half precision an angle far out is rounded; so is the whole table.
    tolerance = 1e-3 if stored.dtype == torch.float32 else 0.05
    for one in frequencies:
        angles = torch.outer(positions, one.float())
        if 2 * angles.shape[1] == table.shape[1]:
            angles = torch.cat([angles, angles], dim=1)
        if angles.shape == table.shape:
            return bool(((angles.sin() if sine else angles.cos()) - table).abs().max() <= tolerance)
    return False


def _is_causal(stored: torch.Tensor) -> bool:
    """Whether a mask [..., n, n] shows each position itself and those before it, and nothing else."""
    import torch

    if stored.dim() < 2 or stored.shape[-1] != stored.shape[-2]:
        return False
    seen = stored.reshape(-1, *stored.shape[-2:]).bool()
    return bool((seen == torch.ones(stored.shape[-2:], dtype=torch.bool).tril()).all())


def _close(stored: torch.Tensor, own: torch.Tensor) -> bool:
    """Equal up to the rounding of the stored type."""
    import torch

    if not stored.is_floating_point():
        return bool(torch.equal(stored.to(own.dtype), own))
    step = max(torch.finfo(stored.dtype).eps, 1e-5)
    difference = (stored.float() - own.float()).abs()
    return bool((difference <= step * own.float().abs() + _SMALLEST).all())


def _equal(first: torch.Tensor, second: torch.Tensor) -> bool:
    return first.shape == second.shape and bool((first == second).all())
