"""What both sides are asked: texts for their tokenizers, token sequences for their models, prompts to continue.

The sequences go where implementations part: behind the edge of a sliding window, behind position 2048, and through
every row of the embedding that chance finds; the texts hold every script and every special token.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.domains import held_out_prose
from jisu.exporter.gate.prompts import CHAT, CHINESE, CODE, FAR
from jisu.exporter.gate.tokenizer import MESSAGES, TEXTS
from jisu.exporter.precision.budget import LONGEST

NEW_TOKENS = 24
_SHORT = 96  # tokens of the further texts
_RANDOM = 160
_BEHIND = 64  # tokens behind the edge of a window
_FARTHEST = 8320  # tokens of the longest sequence: what a window of 8192 needs
_MOST_SPECIAL = 64
_PROMPTS = (5, 12, 40)


@dataclass(frozen=True, kw_only=True)
class Questions:
    """Texts, conversations, and token ids: ``sequences`` by their names, and ``prompts`` to continue greedily."""

    texts: tuple[str, ...]
    conversations: tuple[tuple[dict[str, str], ...], ...]
    sequences: dict[str, TokenIds]
    prompts: tuple[TokenIds, ...]
    new_tokens: int = NEW_TOKENS

    def to_dict(self) -> dict[str, Any]:
        return {
            "texts": list(self.texts),
            "conversations": [list(messages) for messages in self.conversations],
            "sequences": [ids.tolist() for ids in self.sequences.values()],
            "prompts": [ids.tolist() for ids in self.prompts],
            "new_tokens": self.new_tokens,
        }


def choose_questions(
    tokenizer: Any | None, *, vocab_size: int, max_positions: int | None, window: int | None = None
) -> Questions:
    """Choose what is asked about one model.

    Args:
        tokenizer: the artifact's, of the package tokenizers; without one the ids are random.
        vocab_size: ids stay below it.
        max_positions: tokens that the model can hold; None without a limit.
        window: of its sliding attention.
    """
    limit = min(max_positions or FAR, _FARTHEST)
    farthest = min(limit, max(FAR, (window or 0) + _BEHIND))
    generator = np.random.default_rng(2)
    noise = generator.integers(0, vocab_size, max(_RANDOM, farthest), dtype=np.int64)
    sequences = {"random ids": noise[: min(limit, _RANDOM)]}
    prose = noise
    if tokenizer is not None:
        prose = _encoded(tokenizer, held_out_prose()[: 8 * LONGEST], vocab_size)
        sequences |= {"prose": prose[: min(limit, LONGEST)]}
        for name, text in (("Chinese", CHINESE), ("code", CODE), ("chat", CHAT)):
            sequences[name] = _encoded(tokenizer, text, vocab_size)[: min(limit, _SHORT)]
    sequences |= {"one token": prose[:1]}
    if farthest > max(len(ids) for ids in sequences.values()):
        sequences |= {f"{farthest} tokens": np.resize(prose, farthest)}
    steps = min(NEW_TOKENS, limit // 2)
    return Questions(
        texts=() if tokenizer is None else (*TEXTS, *_special_texts(tokenizer)),
        conversations=() if tokenizer is None else MESSAGES,
        sequences={name: ids for name, ids in sequences.items() if len(ids)},
        prompts=tuple(prose[: min(length, limit - steps)] for length in _PROMPTS),
        new_tokens=steps,
    )


def read_artifact_tokenizer(folder: Path) -> Any | None:
    """The artifact's tokenizer as a runtime has it; None without one."""
    from tokenizers import Tokenizer

    path = folder / "tokenizer.json"
    if not path.is_file():
        return None
    tokenizer = Tokenizer.from_file(str(path))
    # A tokenizer.json may ask for truncation or padding; a runtime must not let it.
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


def _special_texts(tokenizer: Any) -> list[str]:
    """Each special token within a sentence; of many the first and the last ones."""
    special = [token.content for token in tokenizer.get_added_tokens_decoder().values() if token.special]
    if len(special) > _MOST_SPECIAL:
        special = special[: _MOST_SPECIAL // 2] + special[-_MOST_SPECIAL // 2 :]
    return [f"before {token} after{token}" for token in special]


def _encoded(tokenizer: Any, text: str, vocab_size: int) -> TokenIds:
    ids = np.asarray(tokenizer.encode(text).ids, np.int64)
    return ids[ids < vocab_size]
