"""What the gate feeds to a model that may be asked about two texts in one: pairs from the held-out domains.

A pair is a question, which is a few words of a text, and another piece of the same text or of another one. Pairs are
encoded as the model's tokenizer does it, types of tokens included where the model is told them.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.domains import built_in_domains

# Tokens of the pairs of each domain, in turn.
PAIR_TOKENS = (16, 40, 90, 128)
# Documents that are put into order, and the queries that they are ordered for.
QUERIES, DOCUMENTS, DOCUMENT_TOKENS = 6, 24, 48
_WORDS, _CHARACTERS = 8, 16


@dataclass(frozen=True, kw_only=True)
class GatePairs:
    """Pairs of texts, each int64 [T].

    Attributes:
        domains: by the name of their domain.
        ranked: for each query, its pairs with the same documents.
        types: of the tokens, by the bytes of their ids; none where the model is not told them.
    """

    domains: tuple[tuple[str, tuple[TokenIds, ...]], ...] = ()
    ranked: tuple[tuple[TokenIds, ...], ...] = ()
    types: dict[bytes, TokenIds] = field(default_factory=dict)


def gate_pairs(tokenizer: Any, readable: set[str], limit: int, *, takes_types: bool, ranks: bool) -> GatePairs:
    """Pairs of the domains that the tokenizer can read.

    Args:
        limit: tokens of a pair at most.
        takes_types: whether the model is told which text a token is of.
        ranks: whether documents are put into order.
    """
    pairs = GatePairs()
    encode = _Encoder(tokenizer, limit, pairs.types if takes_types else None)
    texts = {domain.name: domain.text for domain in built_in_domains() if domain.name in readable}
    domains = []
    for name, text in texts.items():
        step = max(1, len(text) // (2 * len(PAIR_TOKENS)))
        pieces = [text[start : start + step] for start in range(0, 2 * step * len(PAIR_TOKENS), 2 * step)]
        rows = [encode(_question(piece), piece, length) for piece, length in zip(pieces, PAIR_TOKENS, strict=False)]
        if kept := tuple(row for row in rows if len(row)):
            domains.append((name, kept))
    ranked: list[tuple[TokenIds, ...]] = []
    if ranks and texts:
        names = list(texts)
        size = _CHARACTERS * DOCUMENT_TOKENS
        documents = [
            texts[names[index % len(names)]][index // len(names) * size :][:size] for index in range(DOCUMENTS)
        ]
        for name in islice(names, QUERIES):
            question = _question(texts[name][len(texts[name]) // 2 :])
            ranked.append(tuple(encode(question, document, DOCUMENT_TOKENS) for document in documents))
    return GatePairs(domains=tuple(domains), ranked=tuple(ranked), types=pairs.types)


class _Encoder:
    """Pairs of texts as token ids, whose types it keeps."""

    def __init__(self, tokenizer: Any, limit: int, types: dict[bytes, TokenIds] | None) -> None:
        self._tokenizer, self._limit, self._types = tokenizer, limit, types

    def __call__(self, question: str, text: str, length: int) -> TokenIds:
        made = self._tokenizer(
            question, text[: _CHARACTERS * length], truncation=True, max_length=min(self._limit, length)
        )
        row = np.asarray(made["input_ids"], np.int64)
        if self._types is not None:
            self._types[row.tobytes()] = np.asarray(made["token_type_ids"], np.int64)
        return row


def _question(text: str) -> str:
    """A few words of a text, or as many characters where words are not told apart by spaces."""
    return " ".join(text.split()[:_WORDS])[: 4 * _CHARACTERS]
