"""What the gate feeds to a model that may be asked about two texts in one: pairs from the held-out domains.

A pair is a question, which is a few words of a text, and another piece of the same text or of another one. Pairs are
encoded as the model's tokenizer does it, types of tokens included where the model is told them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

import numpy as np

from jisu.exporter.contract.rerank_prompt import DOCUMENT, QUERY, RerankPrompt, split_slots
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


def gate_pairs(
    tokenizer: Any,
    readable: set[str],
    limit: int,
    *,
    takes_types: bool,
    ranks: bool,
    prompt: RerankPrompt | None = None,
) -> GatePairs:
    """Pairs of the domains that the tokenizer can read.

    Args:
        limit: tokens of a pair at most.
        takes_types: whether the model is told which text a token is of.
        ranks: whether documents are put into order.
        prompt: what the model is asked about a pair; the tokenizer joins it when None.
    """
    pairs = GatePairs()
    encode: Callable[[str, str, int], TokenIds] = _Encoder(tokenizer, limit, pairs.types if takes_types else None)
    if prompt is not None:
        encode = _PromptEncoder(tokenizer, limit, prompt)
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
            rows = [encode(question, document, DOCUMENT_TOKENS) for document in documents]
            if all(map(len, rows)):
                ranked.append(tuple(rows))
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


class _PromptEncoder:
    """Pairs in a reranker's prompt: each piece as the tokenizer encodes it, and the document cut to a length."""

    def __init__(self, tokenizer: Any, limit: int, prompt: RerankPrompt) -> None:
        self._tokenizer, self._limit, self._prompt = tokenizer, limit, prompt

    def __call__(self, question: str, text: str, length: int) -> TokenIds:
        whole = self._encode(question, "")
        words = text[: _CHARACTERS * length]
        tokens = self._tokenizer(words, add_special_tokens=False, return_offsets_mapping=True)["offset_mapping"]
        room = min(length, self._limit - len(whole))
        while room > 0 and tokens:
            row = self._encode(question, words[: tokens[min(room, len(tokens)) - 1][1]])
            if len(row) <= self._limit:
                return row
            room -= 1
        return np.empty(0, np.int64)  # no room for a document

    def _encode(self, query: str, document: str) -> TokenIds:
        values = {QUERY: query, DOCUMENT: document}
        pieces = [
            "".join(values.get(name or "", text) for name, text in split_slots(one)) for one in self._prompt.pieces
        ]
        rows = [self._tokenizer(piece, add_special_tokens=False)["input_ids"] for piece in pieces if piece]
        return np.asarray([number for row in rows for number in row], np.int64)


def _question(text: str) -> str:
    """A few words of a text, or as many characters where words are not told apart by spaces."""
    return " ".join(text.split()[:_WORDS])[: 4 * _CHARACTERS]
