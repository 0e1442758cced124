"""Which weight of a model each stored tensor becomes, and which prefix wrappers have put before all names.

Names go through the renaming that transformers applies when it loads (`transformers.core_model_loading`, 5.23), so that
what is found here is what it does. No weight is read.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_LONGEST_PREFIX = 5  # components that wrappers can have put before every name
# What torch.compile, FSDP and activation checkpointing put into the middle of names; no model calls a module so.
_WRAPPERS = re.compile(r"(?:^|(?<=\.))(?:_orig_mod|_fsdp_wrapped_module|_checkpoint_wrapped_module)\.")


@dataclass(frozen=True, kw_only=True)
class StoredName:
    """What becomes of one stored tensor.

    Attributes:
        renamed: its name in the model's spelling, whether or not the model has it.
        targets: the weights and buffers of the model that it is, or that are made with it; empty when it has no place.
        converted: merged with others or split on the way, so that its shape is not the weight's.
    """

    renamed: str
    targets: tuple[str, ...]
    converted: bool = False


def match_names(empty: Any, names: Iterable[str]) -> dict[str, StoredName]:
    """What each stored name becomes in a transformers model on the meta device."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, WeightRenaming, rename_source_key

    mapping = get_model_conversion_mapping(empty)
    renamings = [entry for entry in mapping if isinstance(entry, WeightRenaming)]
    converters = [entry for entry in mapping if isinstance(entry, WeightConverter)]
    by_pattern = {pattern: entry for entry in converters for pattern in entry.source_patterns}
    state = empty.state_dict()
    matches = {}
    for original in names:
        name, pattern = rename_source_key(original, renamings, converters, empty.base_model_prefix, state)
        if name not in state and original in state:
            name, pattern = rename_source_key(original, [], [], empty.base_model_prefix, state)
        targets: tuple[str, ...] = (name,) if name in state else ()
        if targets and pattern is not None:
            first, *others = by_pattern[pattern].target_patterns
            targets = (name, *(name.replace(first, other) for other in others))
        matches[original] = StoredName(renamed=name, targets=targets, converted=pattern is not None)
    return matches


def missing_weights(empty: Any, matches: Mapping[str, StoredName]) -> set[str]:
    """The parameters that no stored tensor becomes; of tied ones, which are one tensor, any is enough."""
    parameters = dict(empty.named_parameters(remove_duplicate=False))
    present_names = {target for match in matches.values() for target in match.targets}
    present = {id(parameters[name]) for name in present_names if name in parameters}
    missing = {
        name for name, parameter in parameters.items() if name not in present_names and id(parameter) not in present
    }
    patterns = getattr(empty, "_keys_to_ignore_on_load_missing", None) or ()
    return {name for name in missing if not any(re.search(pattern, name) for pattern in patterns)}


def without_prefix(empty: Any, names: Iterable[str]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Take off what wrappers such as DDP, torch.compile and PEFT put before every name.

    A prefix is taken off when all names have it and the model finds more of its weights without it.

    Returns:
        Stored name -> name without it, and what was taken off, such as ``module.``.
    """
    plain = {name: _WRAPPERS.sub("", name) for name in names}
    wrappers = tuple(dict.fromkeys(wrapper for name in plain for wrapper in _WRAPPERS.findall(name)))
    if len(set(plain.values())) < len(plain):  # two tensors would have one name
        plain, wrappers = {name: name for name in plain}, ()
    best, least = "", _misfit(empty, plain.values()) if plain else (0, 0)
    for prefix in _shared_prefixes(list(plain.values())) if least[0] else ():
        misfit = _misfit(empty, [name[len(prefix) :] for name in plain.values()])
        if misfit[0] < least[0] or (best and misfit < least):
            best, least = prefix, misfit
    return {name: short[len(best) :] for name, short in plain.items()}, (*([best] if best else []), *wrappers)


def _misfit(empty: Any, names: Collection[str]) -> tuple[int, int]:
    """How many weights are missing, and how many names are not spelled as the model spells them."""
    state = empty.state_dict()
    return len(missing_weights(empty, match_names(empty, names))), sum(name not in state for name in names)


def _shared_prefixes(names: list[str]) -> list[str]:
    """The leading components that all names have, ``a.``, then ``a.b.``; never a whole name."""
    first = names[0].split(".")
    prefixes = [".".join(first[:count]) + "." for count in range(1, min(len(first), _LONGEST_PREFIX + 1))]
    return [prefix for prefix in prefixes if all(name.startswith(prefix) for name in names)]
