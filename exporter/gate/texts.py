"""What the gate feeds to a classifier: token sequences of the lengths that matter, and held-out texts to agree on."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np

from exporter.contract.errors import InputError
from exporter.gate.prompts import TokenIds, gate_prompts, held_out_text
from exporter.sources.quiet import quiet_transformers

WINDOWS = 64
# Tokens of the held-out texts in turn, special tokens included.
WINDOW_LENGTHS = (6, 12, 24, 48, 96, 128)
# Characters that a text of so many tokens is cut from; no tokenizer makes fewer than one token of sixteen of them.
_CHARACTERS = 16


@dataclass(frozen=True, kw_only=True)
class GateTexts:
    """The gate's plan for a classifier. All ids are int64.

    Attributes:
        alone: the first tokens of one long sequence, several lengths, ascending.
        rows: three sequences of unequal lengths; cut to the shortest where rows cannot be padded.
        windows: held-out texts as a runtime encodes them.
        text: what the tokens were made of, for the record.
    """

    alone: tuple[TokenIds, ...]
    rows: tuple[TokenIds, ...]
    windows: tuple[TokenIds, ...]
    text: str


def gate_texts(
    tokenizer: Any | None, vocab_size: int, max_positions: int | None = None, *, evaluation: str | None = None
) -> GateTexts:
    """Plan the gate for one classifier; arguments and errors are those of `exporter.gate.prompts.gate_prompts`."""
    with quiet_transformers():  # which warns of a long text before anything of it is given to the model
        prompts = gate_prompts(tokenizer, vocab_size, max_positions)
    limit = max_positions or max(WINDOW_LENGTHS)
    lengths = [min(limit, length) for length in WINDOW_LENGTHS]
    if tokenizer is None:
        if evaluation is not None:
            gate_prompts(None, vocab_size, max_positions, evaluation=evaluation)  # which says why not
        generator = np.random.default_rng(1)
        windows = [
            generator.integers(0, vocab_size, lengths[index % len(lengths)], dtype=np.int64) for index in range(WINDOWS)
        ]
    else:
        windows = list(_windows(tokenizer, held_out_text() if evaluation is None else evaluation, lengths))
    if not windows:
        raise InputError(
            "The evaluation text is too short to be judged on",
            received=f"{len(evaluation or '')} characters",
            allowed="a few sentences",
            fix="Give a longer --evaluation text.",
        )
    more = "" if evaluation is None else "; labels on a text of the user's"
    return GateTexts(
        alone=tuple(prompts.sequence[:length] for length in prompts.prefill_lengths),
        rows=prompts.rows,
        windows=tuple(windows),
        text=prompts.text + more,
    )


def _windows(tokenizer: Any, text: str, lengths: list[int]) -> Iterator[TokenIds]:
    """Pieces of a text, each from its own place on and cut to its length with the tokenizer's special tokens."""
    step = max(1, len(text) // WINDOWS)
    for index in range(WINDOWS):
        piece = text[index * step : index * step + _CHARACTERS * max(lengths)]
        if not piece.strip():
            continue
        length = lengths[index % len(lengths)]
        piece = piece[: _CHARACTERS * length]
        yield np.asarray(tokenizer(piece, truncation=True, max_length=length)["input_ids"], np.int64)
