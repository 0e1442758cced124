"""An artifact's own tokenizer as the gate asks for texts, without transformers."""

from __future__ import annotations

from functools import cached_property
from pathlib import Path
from typing import Any

from jisu.runtimes.generation.text import TextCodec, open_codec, special_token_texts
from jisu.runtimes.reading.pairs import encode_pair


class ArtifactTokenizer:
    """The part of a tokenizer of transformers that `exporter.gate` uses.

    Args:
        folder: of the artifact, whose tokenizer_config.json names the special tokens.
    """

    def __init__(self, codec: TextCodec, folder: Path) -> None:
        self._codec, self._folder = codec, folder

    @cached_property
    def unk_token_id(self) -> int | None:
        """The token that stands for what the tokenizer does not know; None without one."""
        spelled = special_token_texts(self._folder).get("unk_token")
        token: int | None = None if spelled is None else self._codec.tokenizer.token_to_id(spelled)
        return token

    @cached_property
    def all_special_ids(self) -> list[int]:
        """The tokens that are no words."""
        return sorted(self._codec.special_texts)

    def encode(self, text: str) -> list[int]:
        return self._codec.encode(text, special_tokens=True)

    def __call__(
        self,
        text: str,
        other: str | None = None,
        *,
        truncation: bool = False,
        max_length: int | None = None,
        add_special_tokens: bool = True,
        return_offsets_mapping: bool = False,
    ) -> dict[str, list[Any]]:
        """A text, or a pair of them, of which no more than so many tokens are kept; all of one without special tokens.

        Args:
            return_offsets_mapping: tell where the tokens of that one stand.
        """
        if not add_special_tokens:
            made = self._codec.tokenizer.encode(text, add_special_tokens=False)
            return {"input_ids": made.ids, **({"offset_mapping": made.offsets} if return_offsets_mapping else {})}
        if other is None:
            ids = self.encode(text) if max_length is None else self._codec.encode_start(text, max_length)
            return {"input_ids": ids, "token_type_ids": [0] * len(ids)}
        pair: Any = encode_pair(self._codec, (text, other), limit=max_length, truncate=truncation)
        return {"input_ids": pair.ids, "token_type_ids": pair.type_ids}


def artifact_tokenizer(folder: Path) -> ArtifactTokenizer | None:
    """That of an artifact; None when it has none. Raises InputError when it cannot be read."""
    codec = open_codec(folder)
    return None if codec is None else ArtifactTokenizer(codec, folder)
