"""What becomes of the settings of rotary positions in a configuration file, all of which change answers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from jisu.exporter.sources.account import Account, Fate
from jisu.exporter.sources.config_reads import rope_keys
from jisu.exporter.sources.key_spelling import nearest_key

# Older names, and the one that a class replaces by its own kind.
_ANY_KIND = ("default", "mrope", "su")
_PLACES = ("rope_parameters", "rope_scaling")
# Written by tools beside the settings; transformers has no use for them.
_HARMLESS = ("finetuned", "original_rope_type")


def judge_rotary(
    account: Account, stated: Mapping[str, Any], config: Any, read: set[str], *, path: str = ""
) -> Account:
    """Add a statement for each rotary setting of a configuration file.

    Args:
        account: to add to.
        stated: the file's object.
        config: what transformers made of it.
        read: keys that the model's code mentions.
        path: of a nested configuration, ending in a dot.
    """
    made = list(_groups(getattr(config, "rope_parameters", None)))
    for place in _PLACES:
        value = stated.get(place)
        if not isinstance(value, Mapping):
            continue
        if not made and value:
            why = f"{type(config).__name__} has no rotary positions"
            account = account.state("config", f"{path}{place}", fate="refused", why=why)
            continue
        for name, key, inner in _leaves(value):
            fate, why = _judge(key, inner, value, made, read)
            account = account.state("config", f"{path}{place}.{name}", fate=fate, why=why)
    for key in ("rope_theta", "partial_rotary_factor"):
        value = stated.get(key)
        held = [group.get(key) for group in made] + [getattr(config, key, None)]
        if isinstance(value, (int, float)) and made and value not in held and key in (*read, "rope_theta"):
            own = next((one for one in held if one is not None), None)
            why = f"{value!r} is stated, and the model is made with {own!r}"
            account = account.state("config", f"{path}{key}", fate="refused", why=why)
    return account


def _judge(
    key: str, value: Any, group: Mapping[str, Any], made: list[Mapping[str, Any]], read: set[str]
) -> tuple[Fate, str]:
    kinds = {str(one.get("rope_type", "default")) for one in made}
    known = set().union(*(rope_keys(kind) for kind in kinds))
    if "partial_rotary_factor" not in read and kinds == {"default"}:
        known -= {"partial_rotary_factor"}
    if key in ("type", "rope_type"):
        if value in (*kinds, *_ANY_KIND):
            return "used", ""
        if key == "type" and group.get("rope_type") not in (None, *_ANY_KIND):
            return "refused", f"{value!r} is stated, and rope_type is {group['rope_type']!r}"
        return "used", f"as {' and '.join(sorted(kinds))}"
    if key in known or (key in read and any(key in one for one in made)):
        if isinstance(value, (int, float)) and value not in [one.get(key, value) for one in made]:
            return "refused", f"{value!r} is stated, and the model is made with {made[0].get(key)!r}"
        return "used", ""
    if key in _HARMLESS or value is None or (key == "factor" and value == 1):
        return "harmless", ""
    if (near := nearest_key(key, known - group.keys())) is not None:
        return "refused", f"rotary positions of type {' and '.join(sorted(kinds))} read {near}, which is not stated"
    if key == "factor":
        return "refused", f"rotary positions of type {' and '.join(sorted(kinds))} use no factor"
    if key in _all_keys():
        return "unread", f"rotary positions of type {' and '.join(sorted(kinds))} do not use them"
    return "refused", "no rotary positions of transformers have such a setting"


def _all_keys() -> set[str]:
    from transformers.modeling_rope_utils import ROPE_INIT_FUNCTIONS, RopeParameters

    return set(RopeParameters.__annotations__).union(*(rope_keys(kind) for kind in ROPE_INIT_FUNCTIONS))


def _groups(parameters: Any) -> Iterator[Mapping[str, Any]]:
    """The settings of all layers, or those of each kind of layer."""
    if not isinstance(parameters, Mapping):
        return
    nested = [one for one in parameters.values() if isinstance(one, Mapping)]
    yield from nested or ([parameters] if parameters else [])


def _leaves(value: Mapping[str, Any]) -> Iterator[tuple[str, str, Any]]:
    """(name with dots, last key, value) of every setting, one level of kinds of layers included."""
    for key, inner in value.items():
        if isinstance(inner, Mapping):
            yield from ((f"{key}.{name}", name, one) for name, one in inner.items())
        else:
            yield key, key, inner
