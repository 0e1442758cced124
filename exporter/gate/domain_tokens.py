"""Held-out texts as the tokens that a model is judged on: windows of each domain, and what cannot be read.

A window begins as a text does, with the tokens that the tokenizer puts before every text. Windows are ordered so that
the first few are from all over a domain.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.errors import InputError, JisuError
from jisu.exporter.gate.domains import Conversation, Domain, built_in_domains, plain

TokenIds = npt.NDArray[np.int64]
# Renders a conversation with the model's chat template; raises JisuError where the template takes no such one.
Render = Callable[[Conversation], str]

WINDOW = 256  # tokens of one window
# A domain of which more than this share is unknown to the tokenizer, or that has fewer tokens, says nothing of a model.
MOST_UNKNOWN = 0.2
FEWEST = 32
RANDOM = "random ids"
RANDOM_WINDOWS = 8


class Encoder(Protocol):
    """The part of a transformers tokenizer that is needed here."""

    def encode(self, text: str) -> list[int]: ...


@dataclass(frozen=True, kw_only=True)
class DomainTokens:
    """One domain for one model: token ids, int64 [T] each, T at least 2."""

    name: str
    windows: tuple[TokenIds, ...]

    @property
    def tokens(self) -> int:
        """Positions that are scored: every token but a window's last predicts the next one."""
        return sum(len(window) - 1 for window in self.windows)


@dataclass(frozen=True, kw_only=True)
class Judged:
    """What a model is judged on, and why it is not judged on the rest: sentences."""

    domains: tuple[DomainTokens, ...]
    left_out: tuple[str, ...] = ()

    @property
    def windows(self) -> tuple[TokenIds, ...]:
        """All windows, domain after domain."""
        return tuple(window for domain in self.domains for window in domain.windows)


def random_ids(generator: np.random.Generator, vocab_size: int, size: int, *, padding: int | None = None) -> TokenIds:
    """Ids that are uniform over the vocabulary, int64 [size]; none is the padding's, where one is named."""
    if padding is None or not 0 <= padding < vocab_size:
        return generator.integers(0, vocab_size, size, dtype=np.int64)
    ids = generator.integers(0, vocab_size - 1, size, dtype=np.int64)
    return ids + (ids >= padding)


def random_domain(vocab_size: int, window: int, *, seed: int = 0, padding: int | None = None) -> DomainTokens:
    """Ids that are uniform over the vocabulary: for a model whose tokens are no text that is known here."""
    generator = np.random.default_rng(seed)
    windows = tuple(random_ids(generator, vocab_size, window, padding=padding) for _ in range(RANDOM_WINDOWS))
    return DomainTokens(name=RANDOM, windows=windows)


def domain_tokens(
    tokenizer: Encoder,
    vocab_size: int,
    *,
    window: int = WINDOW,
    own: str | None = None,
    own_name: str = "evaluation text",
    render: Render | None = None,
) -> Judged:
    """Encode what a model is judged on.

    Args:
        vocab_size: ids stay below it.
        window: most tokens of a window, at least 2.
        own: a text of the user's, which takes the place of all built-in domains.
        own_name: what that is called.
        render: the model's chat template; conversations are plain text without one.

    Raises:
        InputError: ids that the model has no embedding for, or a text of the user's that is shorter than a window.
    """
    if own is not None:
        windows = _of_text(tokenizer, [own], vocab_size, window)
        if sum(map(len, windows)) < window:
            raise InputError(
                "The evaluation text is shorter than one window",
                received=f"{sum(map(len, windows))} tokens",
                allowed=f"at least {window} tokens",
                fix="Give a longer --evaluation text.",
            )
        return Judged(domains=(DomainTokens(name=own_name, windows=windows),))
    unknown = getattr(tokenizer, "unk_token_id", None)
    domains, left_out = [], []
    for domain in built_in_domains():
        windows = _of_domain(tokenizer, domain, vocab_size, window, render)
        ids = np.concatenate(windows) if windows else np.empty(0, np.int64)
        share = float((ids == unknown).mean()) if unknown is not None and len(ids) else 0.0
        if share > MOST_UNKNOWN:
            left_out.append(f"{domain.name}: the tokenizer does not know {share:.0%} of its tokens")
        elif len(ids) < FEWEST:
            left_out.append(f"{domain.name}: the tokenizer makes {len(ids)} tokens of it")
        else:
            domains.append(DomainTokens(name=domain.name, windows=windows))
    if not domains:
        # Nothing that is built in can be read: such as the words of one small vocabulary.
        return Judged(domains=(random_domain(vocab_size, window),), left_out=tuple(left_out))
    return Judged(domains=tuple(domains), left_out=tuple(left_out))


def spread(count: int) -> list[int]:
    """The numbers 0..count-1 so that the first few are spread over all of them: ordered by their bits, reversed."""
    bits = max(1, (count - 1).bit_length())
    return sorted(range(count), key=lambda number: int(f"{number:0{bits}b}"[::-1], 2))


def _of_domain(
    tokenizer: Encoder, domain: Domain, vocab_size: int, window: int, render: Render | None
) -> tuple[TokenIds, ...]:
    if not domain.conversations:
        return _of_text(tokenizer, ["\n\n".join(domain.passages)], vocab_size, window)
    texts = list(_rendered(domain.conversations, render))
    if texts:
        # A template's own tokens are in its text, and a conversation is read from its beginning.
        return _of_text(tokenizer, texts, vocab_size, window, begun=True)
    return _of_text(tokenizer, [plain(one) for one in domain.conversations], vocab_size, window)


def _rendered(conversations: Iterable[Conversation], render: Render | None) -> Iterable[str]:
    for conversation in conversations if render is not None else ():
        assert render is not None
        try:
            yield render(conversation)
        except JisuError:  # a template without a place for a system's message, say
            continue


def _of_text(
    tokenizer: Encoder, texts: Sequence[str], vocab_size: int, window: int, *, begun: bool = False
) -> tuple[TokenIds, ...]:
    """Windows of each text; ``begun``: a text brings its first tokens itself, and only its first window has them."""
    first = [] if begun else _opening(tokenizer, texts[0])
    room = window - len(first)
    windows: list[TokenIds] = []
    for text in texts:
        ids = np.asarray(tokenizer.encode(text), np.int64)
        if not len(ids):
            continue
        if ids.min() < 0 or ids.max() >= vocab_size:
            raise InputError(
                "The tokenizer does not belong to the model",
                received=f"token ids up to {ids.max()}",
                allowed=f"ids 0..{vocab_size - 1}",
                fix="Use the tokenizer the model was trained with.",
            )
        ids = ids[len(first) :]
        pieces = [ids[start : start + room] for start in range(0, len(ids), room)]
        # What is left at the end of a text is read too where it is long enough to say something.
        pieces = [piece for piece in pieces if len(piece) >= min(room, FEWEST)]
        windows += [np.concatenate([np.asarray(first, np.int64), piece]) for piece in pieces]
    return tuple(windows[number] for number in spread(len(windows)))


def _opening(tokenizer: Encoder, text: str) -> list[int]:
    """The tokens that are put before every text."""
    empty, begun = tokenizer.encode(""), tokenizer.encode(text)
    same = 0
    while same < min(len(empty), len(begun)) and empty[same] == begun[same]:
        same += 1
    return list(begun[:same])
