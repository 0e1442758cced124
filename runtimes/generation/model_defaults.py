"""Completes what a caller asked for by the model's own generation settings, as transformers' ``generate`` does.

What the caller gives goes before what the model's ``generation_config.json`` says, option by option; then comes what
transformers takes where neither says anything. How a token is chosen is one decision: who asks for a temperature, for
beams, or for neither, does not get the model's other way of choosing beside it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import fields, replace
from typing import Any

from jisu.exporter.contract.artifact import ModelFacts
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.generation_settings import GENERATION_CONFIG
from jisu.runtimes.generation.options import NARROWING, SamplingOptions
from jisu.runtimes.generation.token_rules import TokenRules

# Options that mean the same in both, and are independent of the way of choosing.
_RULES = tuple(item.name for item in fields(TokenRules))
_SHARED = ("repetition_penalty", *_RULES)


def complete_options(
    options: SamplingOptions, settings: Mapping[str, Any], *, searches: bool = True
) -> SamplingOptions:
    """Options that say all of what is done.

    Args:
        options: the caller's; with ``model_defaults`` False the settings are not looked at.
        settings: the model's, see `exporter.contract.generation_settings.read_generation_settings`.
        searches: whether beams are possible; where not, the model's are left out, and the caller's stay to be refused.

    Raises:
        InputError: something that nothing would read, or options that do not go together.
    """
    own = settings if options.model_defaults else {}
    draws = _draws(options, own)
    changes: dict[str, Any] = {name: own[name] for name in _SHARED if name in own and getattr(options, name) is None}
    if draws:
        changes["temperature"] = options.temperature or own.get("temperature") or 1.0
        changes |= {name: own[name] for name in NARROWING if name in own and getattr(options, name) is None}
    elif options.do_sample is False or options.temperature == 0:
        changes |= dict.fromkeys(("temperature", *NARROWING))
    beams = own.get("num_beams") or 1
    if options.num_beams is None and not draws and beams > 1 and searches:
        changes["num_beams"] = beams
    if changes.get("num_beams") or options.searches:
        names = ("length_penalty", "early_stopping")
        changes |= {name: own[name] for name in names if name in own and getattr(options, name) is None}
    if options.max_new_tokens is None and options.max_length is None:
        # Both in one file: transformers follows max_new_tokens.
        name = "default_new_tokens" if own.get("max_new_tokens") else "max_length"
        changes[name] = own.get("max_new_tokens") or own.get("max_length")
    if not options.stop and own.get("stop_strings"):
        changes["stop"] = own["stop_strings"]
    if options.ignore_eos:
        changes["forced_eos_token_id"] = options.forced_eos_token_id  # an end that the caller wants to be no end
    if options.suppress_tokens is None and own.get("suppress_tokens"):
        # What the caller has an opinion on is not suppressed by the model's settings.
        changes["suppress_tokens"] = [token for token in own["suppress_tokens"] if token not in options.logit_bias]
    completed = replace(options, **changes)
    completed.check_use()
    off = [name for name, values in NARROWING.items() if getattr(completed, name) in values]
    neutral: dict[str, Any] = dict.fromkeys(off)
    return replace(completed, **neutral) if off else completed


def checked_settings(settings: Mapping[str, Any], facts: ModelFacts, place: object) -> dict[str, Any]:
    """The settings with what only the manifest of an older artifact says.

    Args:
        place: what an error calls them.

    Raises:
        InputError: they are out of range or contradict each other.
    """
    recorded = {
        "forced_bos_token_id": facts.forced_bos,
        "forced_eos_token_id": facts.forced_eos,
        "suppress_tokens": list(facts.suppressed) or None,
    }
    merged = {**{name: value for name, value in recorded.items() if value is not None}, **settings}
    try:
        complete_options(SamplingOptions(), merged)
    except InputError as error:
        raise InputError(
            f"The generation settings of {place} cannot be followed",
            received=error,
            allowed="what transformers' generate takes",
            fix=f"Correct {GENERATION_CONFIG} of the checkpoint, and export it again.",
        ) from error
    return merged


def _draws(options: SamplingOptions, settings: Mapping[str, Any]) -> bool:
    """Whether tokens are drawn: as the caller says, or as the model's settings do."""
    if options.do_sample is not None:
        return options.do_sample
    if options.temperature is not None:
        return options.temperature > 0
    if options.num_beams is not None and options.num_beams > 1:
        return False
    return bool(settings.get("do_sample")) and (options.num_beams == 1 or (settings.get("num_beams") or 1) == 1)
