"""Where the keys of one GGUF file go: fields of a configuration, or a line of the account; filled key by key."""

from __future__ import annotations

import dataclasses
from typing import Any

from jisu.exporter.sources.account import Account
from jisu.exporter.sources.gguf.comparison import NO_COUNTERPART, compare_config, nearest_key, switched_off
from jisu.exporter.sources.gguf.header import GgufHeader
from jisu.exporter.sources.gguf.keys import ELSEWHERE, FOREIGN, Meaning


class KeyPlaces:
    """What has been settled of a file's keys, and what is left.

    Attributes:
        declared: fields that the configuration's class has.
        settings: arguments that the configuration is made with.
        places: key -> the field that holds it, and the value that the finished configuration must have there.
        stated: what the file says, by key without the architecture; ``left`` those that nothing was said of yet.
        head_size: 0 until it is known.
    """

    head_size = 0

    def __init__(self, header: GgufHeader, config_class: Any) -> None:
        self.header = header
        self.config_class = config_class
        self.model_type: str = config_class.model_type
        self.declared = {field.name for field in dataclasses.fields(config_class)} | set(config_class.attribute_map)
        self.settings: dict[str, Any] = {}
        self.places: dict[str, tuple[str, Any]] = {}
        self.account = Account()
        prefix = f"{header.architecture}."
        self.stated = {
            key.removeprefix(prefix): plain_value(header.fields[key])
            for key in header.fields
            if key[: len(prefix)] == prefix
        }
        self.left = dict(self.stated)

    def put(self, key: str, meaning: Meaning) -> None:
        """Send a key where its meaning says, or refuse what the class has no field for."""
        value = self.left[key]
        field = next((name for name in meaning.fields if name in self.declared), None)
        if isinstance(value, tuple):
            self.settle(key, "refused", "the value differs between layers")
        elif field is None:
            self.settle(key, *switched_off(value, meaning.off))
        elif value in meaning.off and not isinstance(value, bool):
            # Where a class has the feature, zero is how a file says that the model does without.
            self.place(key, field, None if field.endswith("softcapping") else value)
        else:
            self.place(key, field, value)

    def put_stated(self, key: str, field: str, value: Any) -> None:
        """Send a value to a field when the file states the key."""
        if key in self.left:
            self.place(key, field, value)

    def place(self, key: str, field: str, value: Any, *, stated: bool = True) -> None:
        """Send a value to a field of the configuration; two keys that disagree are both refused in `compare`."""
        self.left.pop(key, None)
        if stated:
            self.settings[field] = value
        self.places[key] = (field, value)

    def settle(self, key: str, fate: Any, why: str) -> None:
        """Say of a key that is left what became of it."""
        if self.left.pop(key, None) is not None:
            self.state(key, fate, why)

    def state(self, key: str, fate: Any, why: str) -> None:
        """Say of a key that the file states what became of it."""
        if key in self.stated:
            self.account = self.account.state("gguf", self.name(key), fate=fate, why=why)

    def state_elsewhere(self, key: str) -> None:
        """Say what became of a key outside the architecture's and the tokenizer's."""
        if key.startswith((f"{self.header.architecture}.", "tokenizer.", "general.sampling.")):
            return
        why = next((why for start, why in ELSEWHERE.items() if key.startswith(start)), None)
        if why is not None:
            self.account = self.account.state("gguf", key, fate="harmless", why=why)
        elif key.startswith(FOREIGN):
            self.account = self.account.state("gguf", key, fate="refused", why=NO_COUNTERPART)
        elif near := nearest_key(key, self.header.architecture):
            self.account = self.account.state("gguf", key, fate="refused", why=f"nearly {near}, which it may be")
        else:
            self.account = self.account.state("gguf", key, fate="unread", why="no key of llama.cpp")

    def has(self, part: str) -> bool:
        """Whether a tensor of a layer is named so."""
        return any(f".{part}" in tensor.name for tensor in self.header.tensors)

    def name(self, key: str) -> str:
        """The key as the file spells it."""
        return f"{self.header.architecture}.{key}"

    def compare(self, config: Any) -> Account:
        """The account, in which every value that the finished configuration does not hold is refused."""
        return compare_config(config, self.places, account=self.account, architecture=self.header.architecture)


def plain_value(value: Any) -> Any:
    """An array of one and the same number as that number; a float32 as the shortest number that is stored as it."""
    import numpy as np

    if isinstance(value, tuple) and value and len(set(value)) == 1:
        value = value[0]
    if isinstance(value, float) and float(np.float32(value)) == value:
        return float(str(np.float32(value)))
    return value
