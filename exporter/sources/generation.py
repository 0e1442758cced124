"""What a checkpoint says of how its answers are to be generated: carried into the artifact, and accounted for."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import ModelFacts
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.generation_settings import GENERATION_CONFIG, HARMLESS, HONOURED, OFF, TOKENS
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.jsonfile import read_json
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of
from jisu.exporter.sources.speech import HARMLESS as HARMLESS_OF_SPEECH
from jisu.exporter.sources.speech import PROMPTING
from jisu.exporter.sources.unreadable_settings import UNREADABLE, unreadable_settings

# What transformers draws from when nothing says how many of the likeliest (5.23).
_TOP_K = 50
_TOKEN_LISTS = ("suppress_tokens", "begin_suppress_tokens")
_SEQUENCES = ("bad_words_ids", "sequence_bias")
_FORCED = ("forced_bos_token_id", "forced_eos_token_id")


def read_generation_config(folder: Path) -> Any | None:
    """transformers' object of the settings in a folder; None where there are none.

    Without a file of their own they may be part of ``config.json``, as older checkpoints have them.

    Raises:
        InputError: the file is no JSON object, or its entries are none of settings.
    """
    path = folder / GENERATION_CONFIG
    own = path.is_file()
    if not own:
        path = folder / "config.json"
    if not path.is_file():
        return None
    data = read_json(path)
    from transformers import GenerationConfig

    try:
        with quiet_transformers():
            if own:
                return GenerationConfig.from_dict(data)
            return GenerationConfig.from_pretrained(
                str(folder), config_file_name=path.name, _from_model_config=True, local_files_only=True
            )
    except Exception as error:
        raise InputError(
            f"{path} holds no valid generation settings",
            received=reason_of(error),
            allowed="a JSON object as save_pretrained writes it",
            fix="Download the file again, or remove it.",
        ) from error


def carried_settings(config: Any | None, *, rows: int) -> dict[str, Any]:
    """The settings that an artifact keeps, of transformers' object, as that library's ``generate`` would follow them.

    Args:
        config: of the model; None where it has none.
        rows: ids below it exist. Rules about others can never matter, and are left out.

    Raises:
        TypeError, ValueError, AttributeError: something else than ids where these belong.
    """
    stored = {} if config is None else config.to_dict()
    settings = {name: stored[name] for name in HONOURED if stored.get(name) is not None}
    for name in (*_TOKEN_LISTS, "bad_words_ids"):
        if not isinstance(settings.get(name, []), (list, tuple)):
            raise TypeError(f"{name} {settings[name]!r} is no list")
    for name in _TOKEN_LISTS:
        if name in settings:
            settings[name] = [token for token in settings[name] if 0 <= token < rows]
    if "bad_words_ids" in settings:
        settings["bad_words_ids"] = [word for word in settings["bad_words_ids"] if all(0 <= one < rows for one in word)]
    if "sequence_bias" in settings:
        stored_bias = settings["sequence_bias"]
        pairs = stored_bias.items() if isinstance(stored_bias, Mapping) else stored_bias
        settings["sequence_bias"] = [[list(ids), bias] for ids, bias in pairs if all(0 <= one < rows for one in ids)]
    for name in _FORCED:
        ids = settings.get(name, [])
        ids = ids if isinstance(ids, list) else [ids]
        if not all(isinstance(one, int) for one in ids):
            raise TypeError(f"{name} {settings[name]!r} is no token id")
        if any(not 0 <= one < rows for one in ids):
            del settings[name]
    if settings.get("do_sample"):
        settings.setdefault("top_k", _TOP_K)
    return {name: value for name, value in settings.items() if value != [] or name not in (*_TOKEN_LISTS, *_SEQUENCES)}


def notes_on_settings(config: Any | None, *, rows: int) -> list[str]:
    """What is said of settings that name tokens which a model does not have, and are not followed there."""
    stored = {} if config is None else config.to_dict()
    beyond = []
    for name in (*_TOKEN_LISTS, *_FORCED):
        ids = stored.get(name)
        ids = ids if isinstance(ids, (list, tuple)) else [ids]
        # -1 is what some write for none.
        if any(isinstance(one, int) and one >= rows for one in ids):
            beyond.append(name)
    return [f"{' and '.join(beyond)} name tokens beyond the model's {rows}, which are left out."] if beyond else []


def check_generation(config: Any | None, facts: ModelFacts, checkpoint: Path) -> None:
    """Raise InputError when the settings of a checkpoint are out of range, or contradict each other."""
    from jisu.runtimes.generation.model_defaults import checked_settings

    try:
        settings = carried_settings(config, rows=facts.vocab_size)
    except UNREADABLE as error:
        raise unreadable_settings(checkpoint, error) from error
    checked_settings(settings, facts, checkpoint)


def account_for_generation(account: Account, folder: Path, *, hears: bool = False) -> Account:
    """Add what the file in a folder states; where there is none, ``config.json`` is what has been read instead.

    Args:
        hears: whether the model writes down speech, and has settings of that.
    """
    read, idle = (PROMPTING, HARMLESS_OF_SPEECH) if hears else ((), ())
    path = folder / GENERATION_CONFIG
    if not path.is_file():
        statements = (
            replace(one, fate="used", why="") if one.kind == "generation" and one.name in HONOURED else one
            for one in account.statements
        )
        return replace(account, statements=tuple(statements))
    stored = {name: value for name, value in read_json(path).items() if value is not None}
    account = account.state("generation", [name for name in stored if name in (*TOKENS, *HONOURED, *read)], fate="used")
    off = [name for name, value in stored.items() if name in OFF and value in OFF[name]]
    harmless = [name for name in stored if name in (*HARMLESS, *idle)]
    account = account.state("generation", [*harmless, *off], fate="harmless", why="changes no answer")
    known = {*TOKENS, *HONOURED, *read, *harmless, *off}
    others = [name for name in stored if name not in known]
    account = account.state("generation", others, fate="unread", why="answers are generated without them")
    if stored.get("do_sample") and (stored.get("num_beams") or 1) > 1:
        why = "beams are searched for the likeliest answer, not drawn"
        account = account.state("generation", "do_sample with num_beams", fate="unread", why=why)
    return account
