"""Generation settings that a GGUF file recommends: sampling, tokens that end a turn, tokens that are never produced."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jisu.exporter.sources.account import Account
from jisu.exporter.sources.gguf.header import GgufHeader, read_array

END_OF_TURN = "tokenizer.ggml.eot_token_id"
SUPPRESSED = "tokenizer.ggml.suppress_tokens"
_SAMPLING = "general.sampling."
# llama.cpp's names, and those of transformers' generation configuration.
_SETTINGS: Mapping[str, str] = {
    f"{_SAMPLING}temp": "temperature",
    f"{_SAMPLING}top_k": "top_k",
    f"{_SAMPLING}top_p": "top_p",
    f"{_SAMPLING}min_p": "min_p",
    f"{_SAMPLING}penalty_repeat": "repetition_penalty",
}


def set_generation(model: Any, header: GgufHeader) -> None:
    """Take the file's settings over into the model's generation configuration.

    The token that ends a chat turn ends an answer as well; the model's configuration has room for one id only.
    """
    settings, fields = model.generation_config, header.fields
    end_of_turn = fields.get(END_OF_TURN)
    if isinstance(end_of_turn, int):
        known = settings.eos_token_id
        known = known if isinstance(known, list) else [] if known is None else [known]
        settings.eos_token_id = [*known, end_of_turn]
    for key, name in _SETTINGS.items():
        if key in fields:
            setattr(settings, name, fields[key])
    temperature = fields.get(f"{_SAMPLING}temp")
    if temperature is not None:
        settings.do_sample = bool(temperature > 0)
        if not settings.do_sample:
            settings.temperature = None
    suppressed = read_array(header, SUPPRESSED)
    if suppressed:
        rows = model.config.get_text_config().vocab_size
        settings.suppress_tokens = [one for one in suppressed if 0 <= one < rows]


def state_generation(account: Account, header: GgufHeader) -> Account:
    """The account with every setting of generation; what transformers has no name for is said."""
    for key in header.fields:
        if key in _SETTINGS or key in (END_OF_TURN, SUPPRESSED):
            account = account.state("generation", key, fate="used", why=_SETTINGS.get(key, ""))
        elif key.startswith(_SAMPLING):
            account = account.state("generation", key, fate="unread", why="a way of sampling that is not offered")
    return account
