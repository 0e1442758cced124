"""What the gate feeds to a model that reads whole texts: sequences of the lengths that matter, and held-out texts."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.rerank_prompt import RerankPrompt
from jisu.exporter.gate.domain_tokens import MOST_UNKNOWN, RANDOM, DomainTokens, Judged, TokenIds
from jisu.exporter.gate.domains import built_in_domains
from jisu.exporter.gate.pairs import GatePairs, gate_pairs
from jisu.exporter.gate.prompts import gate_prompts
from jisu.exporter.sources.quiet import quiet_transformers

WINDOWS = 64  # of one text alone
DOMAIN_WINDOWS = 6  # of each of several domains
# Tokens of the held-out texts in turn, special tokens included.
WINDOW_LENGTHS = (6, 12, 24, 48, 96, 128)
# Of each domain, to be ranked: pieces of so many tokens, and shorter ones of other places that they are compared with.
CORPUS_TEXTS, CORPUS_TOKENS = 12, 40
CORPUS_QUERIES, QUERY_TOKENS = 3, 14
# Characters that a text of so many tokens is cut from; no tokenizer makes fewer than one token of sixteen of them.
_CHARACTERS = 16


@dataclass(frozen=True, kw_only=True)
class GateTexts:
    """What the gate asks one model. All ids are int64.

    Attributes:
        alone: the first tokens of one long sequence, several lengths, ascending; the last one fills the model's range.
        rows: three sequences of unequal lengths; cut to the shortest where rows cannot be padded.
        judged: held-out texts of several domains as a runtime encodes them.
        text: what the tokens were made of, for the record.
        pairs: pairs of texts by domain, as a tokenizer encodes them; none where the model is asked about single texts.
        ranked: for each of some queries, its pairs with documents that are to be put into order.
        types: of the tokens of pairs, by the bytes of their ids, where the model is told them.
        mask, special: the token that stands for a word to be found, and those that are no words.
        queries, corpus: short texts, and longer ones that they are compared with; none without a tokenizer.
    """

    alone: tuple[TokenIds, ...]
    rows: tuple[TokenIds, ...]
    judged: Judged
    text: str
    queries: tuple[TokenIds, ...] = ()
    corpus: tuple[TokenIds, ...] = ()
    pairs: tuple[tuple[str, tuple[TokenIds, ...]], ...] = ()
    ranked: tuple[tuple[TokenIds, ...], ...] = ()
    types: Mapping[bytes, TokenIds] = field(default_factory=dict)
    mask: int | None = None
    special: frozenset[int] = frozenset()

    @property
    def windows(self) -> tuple[TokenIds, ...]:
        """The held-out texts, domain after domain."""
        return self.judged.windows


def gate_texts(
    tokenizer: Any | None,
    vocab_size: int,
    max_positions: int | None = None,
    *,
    evaluation: str | None = None,
    far: int | None = None,
    ranks: bool = False,
    pairs: bool = False,
    takes_types: bool = False,
    ranks_documents: bool = False,
    rerank_prompt: RerankPrompt | None = None,
    mask: int | None = None,
) -> GateTexts:
    """Choose what the gate asks one model; arguments and errors are those of `exporter.gate.prompts.gate_prompts`.

    ``far`` is the length of the longest text: the model's whole range, where that is affordable. ``ranks`` asks for
    queries and a corpus, ``pairs`` for pairs of texts (whose types the model is told if it ``takes_types``), and
    ``ranks_documents`` for pairs of queries and documents; ``rerank_prompt`` puts pairs into words. ``mask`` is the
    token that stands for a word to be found.
    """
    with quiet_transformers():  # which warns of a long text before anything of it is given to the model
        prompts = gate_prompts(tokenizer, vocab_size, max_positions, judges_quality=False, far=far)
    limit = max_positions or max(WINDOW_LENGTHS)
    lengths = [min(limit, length) for length in WINDOW_LENGTHS]
    if tokenizer is None:
        if evaluation is not None:
            gate_prompts(None, vocab_size, max_positions, evaluation=evaluation)  # which says why not
        judged = _random(vocab_size, lengths)
    elif evaluation is not None:
        own = tuple(_windows(tokenizer, evaluation, lengths, count=WINDOWS))
        judged = Judged(domains=(DomainTokens(name="evaluation text", windows=own),))
    else:
        judged = _domains(tokenizer, lengths)
        if not judged.domains:
            judged = Judged(domains=_random(vocab_size, lengths).domains, left_out=judged.left_out)
    if not judged.windows:
        raise InputError(
            "The evaluation text is too short to be judged on",
            received=f"{len(evaluation or '')} characters",
            allowed="a few sentences",
            fix="Give a longer --evaluation text.",
        )
    more = "" if evaluation is None else "; labels on a text of the user's"
    paired = GatePairs()
    if pairs and tokenizer is not None:
        readable = {domain.name for domain in (judged if evaluation is None else _domains(tokenizer, lengths)).domains}
        paired = gate_pairs(
            tokenizer, readable, limit, takes_types=takes_types, ranks=ranks_documents, prompt=rerank_prompt
        )
    return GateTexts(
        alone=(
            *(prompts.sequence[:length] for length in prompts.prefill_lengths),
            *(() if prompts.far is None else (prompts.far,)),
        ),
        rows=prompts.rows,
        judged=judged,
        text=prompts.text + more,
        pairs=paired.domains,
        ranked=paired.ranked,
        types=_prompted(judged) if ranks and takes_types else paired.types,
        mask=mask,
        special=frozenset(getattr(tokenizer, "all_special_ids", ())),
        **(_searched(tokenizer, judged, limit) if ranks and tokenizer is not None else {}),
    )


def _random(vocab_size: int, lengths: list[int]) -> Judged:
    generator = np.random.default_rng(1)
    sizes = [lengths[index % len(lengths)] for index in range(WINDOWS)]
    windows = tuple(generator.integers(0, vocab_size, size, dtype=np.int64) for size in sizes)
    return Judged(domains=(DomainTokens(name=RANDOM, windows=windows),))


def _domains(tokenizer: Any, lengths: list[int]) -> Judged:
    """Texts of every built-in domain that the tokenizer can read."""
    unknown = getattr(tokenizer, "unk_token_id", None)
    domains, left_out = [], []
    for domain in built_in_domains():
        windows = tuple(_windows(tokenizer, domain.text, lengths, count=DOMAIN_WINDOWS))
        ids = np.concatenate(windows) if windows else np.empty(0, np.int64)
        share = float((ids == unknown).mean()) if unknown is not None and len(ids) else 0.0
        if share > MOST_UNKNOWN:
            left_out.append(f"{domain.name}: the tokenizer does not know {share:.0%} of its tokens")
        elif windows:
            domains.append(DomainTokens(name=domain.name, windows=windows))
    return Judged(domains=tuple(domains), left_out=tuple(left_out))


def _prompted(judged: Judged) -> dict[bytes, TokenIds]:
    """Types of tokens of every second text, as if it began with a prompt of one to three tokens."""
    types = {}
    for number, row in enumerate(judged.windows[::2]):
        kinds = np.zeros(len(row), np.int64)
        kinds[: min(1 + number % 3, len(row) - 1)] = 1
        types[row.tobytes()] = kinds
    return types


def _searched(tokenizer: Any, judged: Judged, limit: int) -> dict[str, tuple[TokenIds, ...]]:
    """Texts of the domains that the tokenizer can read, and queries about their subjects: what follows a text."""
    readable = {domain.name for domain in judged.domains}
    corpus: list[TokenIds] = []
    queries: list[TokenIds] = []
    for domain in built_in_domains():
        if domain.name not in readable:
            continue
        step = max(1, len(domain.text) // CORPUS_TEXTS)
        places = [domain.text[start : start + step] for start in range(0, step * CORPUS_TEXTS, step)]
        for index, place in enumerate(places):
            middle = len(place) // 2
            corpus += _cut(tokenizer, place[:middle], min(limit, CORPUS_TOKENS))
            if index % (CORPUS_TEXTS // CORPUS_QUERIES) == 0:
                queries += _cut(tokenizer, place[middle:], min(limit, QUERY_TOKENS))
    return {"queries": tuple(queries), "corpus": tuple(corpus)}


def _cut(tokenizer: Any, text: str, length: int) -> list[TokenIds]:
    """The beginning of a text from a word on, with the tokenizer's special tokens; none where there is no text."""
    words = text.partition(" ")[2] or text
    ids = np.asarray(tokenizer(words, truncation=True, max_length=length)["input_ids"], np.int64)
    return [ids] if len(ids) else []


def _windows(tokenizer: Any, text: str, lengths: list[int], *, count: int) -> Iterator[TokenIds]:
    """Pieces of a text, each from its own place on and cut to its length with the tokenizer's special tokens."""
    step = max(1, len(text) // count)
    for index in range(count):
        piece = text[index * step : index * step + _CHARACTERS * max(lengths)]
        if not piece.strip():
            continue
        length = lengths[index % len(lengths)]
        piece = piece[: _CHARACTERS * length]
        ids = np.asarray(tokenizer(piece, truncation=True, max_length=length)["input_ids"], np.int64)
        if len(ids):
            yield ids
