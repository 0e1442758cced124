"""Rules about which tokens an answer may have and where, as transformers' generation settings state them.

They are a part of the options, under transformers' names (5.23); `runtimes.generation.row_rules` applies them. Here
they are checked.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypedDict

import numpy as np

SequenceBias = Mapping[tuple[int, ...], float]


@dataclass(frozen=True, kw_only=True)
class TokenRules:
    """What is not given, or None, follows the model's own settings; the value in brackets switches a rule off.

    Args:
        no_repeat_ngram_size: no sequence of so many tokens comes twice in prompt and answer (0).
        encoder_no_repeat_ngram_size: none of what the model reads comes again in its answer (0). What it reads is its
            source, or else the prompt.
        bad_words_ids: sequences of tokens that are never completed (()); a model's end token alone cannot be one.
        sequence_bias: sequence of tokens -> number added to the logit of its last one when the others were just said
            ({}). A list of pairs, as JSON has it, is as good.
        suppress_tokens: tokens that no answer has (()).
        begin_suppress_tokens: tokens that no answer begins with (()).
        min_new_tokens: an answer does not end before it has so many tokens (0).
        min_length: the same with the prompt's tokens counted (0).
        encoder_repetition_penalty: below 1 favours, above 1 also: multiplies positive and divides negative logits of
            every token that the model reads, above 0 (1).
        exponential_decay_length_penalty: (start, factor): behind so many new tokens the end tokens' logits grow by
            |logit| * (factor ** (tokens beyond) - 1) (factor 1).
        forced_bos_token_id: the token that follows a prompt of one token, such as a decoder's start (-1).
        forced_eos_token_id: the token, or one of those, that an answer at its limit ends with (-1).
        typical_p: keep tokens of typical surprise up to this probability, in (0, 1] (1); Meister et al. 2022.
        epsilon_cutoff: drop tokens less likely than this, in [0, 1) (0); Hewitt et al. 2022.
        eta_cutoff: the same, with a bound that falls with the entropy, in [0, 1) (0).
        top_h: keep the likeliest tokens up to this share of the entropy, in (0, 1]; of 100 at most.
        renormalize_logits: make log-probabilities of the edited logits anew, which only a search with beams sees.
    """

    no_repeat_ngram_size: int | None = None
    encoder_no_repeat_ngram_size: int | None = None
    bad_words_ids: Sequence[Sequence[int]] | None = None
    sequence_bias: Mapping[Sequence[int], float] | Sequence[tuple[Sequence[int], float]] | None = None
    suppress_tokens: Sequence[int] | None = None
    begin_suppress_tokens: Sequence[int] | None = None
    min_new_tokens: int | None = None
    min_length: int | None = None
    encoder_repetition_penalty: float | None = None
    exponential_decay_length_penalty: tuple[int, float] | None = None
    forced_bos_token_id: int | None = None
    forced_eos_token_id: int | Sequence[int] | None = None
    typical_p: float | None = None
    epsilon_cutoff: float | None = None
    eta_cutoff: float | None = None
    top_h: float | None = None
    renormalize_logits: bool | None = None

    @property
    def restricts(self) -> bool:
        """Whether some rule could change a logit."""
        return bool(
            self.no_repeat_ngram_size
            or self.encoder_no_repeat_ngram_size
            or self.bad_words_ids
            or self.biases
            or self.suppress_tokens
            or self.begin_suppress_tokens
            or self.min_new_tokens
            or self.min_length
            or self.encoder_repetition_penalty not in (None, 1)
            or self.exponential_decay_length_penalty
            or ids_of(self.forced_bos_token_id)
            or ids_of(self.forced_eos_token_id)
        )

    @property
    def biases(self) -> SequenceBias:
        """``sequence_bias`` by sequences."""
        sequence_bias = self.sequence_bias or {}
        pairs: Iterable[Any] = sequence_bias.items() if isinstance(sequence_bias, Mapping) else sequence_bias
        return {tuple(sequence): bias for sequence, bias in pairs}

    @property
    def named_tokens(self) -> set[int]:
        """Every token that some rule names."""
        return {
            *(token for word in self.bad_words_ids or () for token in word),
            *(token for sequence in self.biases for token in sequence),
            *(self.suppress_tokens or ()),
            *(self.begin_suppress_tokens or ()),
            *ids_of(self.forced_bos_token_id),
            *ids_of(self.forced_eos_token_id),
        }


class RuleChanges(TypedDict, total=False):
    """The fields of `TokenRules`, as keyword arguments."""

    no_repeat_ngram_size: int | None
    encoder_no_repeat_ngram_size: int | None
    bad_words_ids: Sequence[Sequence[int]] | None
    sequence_bias: Mapping[Sequence[int], float] | Sequence[tuple[Sequence[int], float]] | None
    suppress_tokens: Sequence[int] | None
    begin_suppress_tokens: Sequence[int] | None
    min_new_tokens: int | None
    min_length: int | None
    encoder_repetition_penalty: float | None
    exponential_decay_length_penalty: tuple[int, float] | None
    forced_bos_token_id: int | None
    forced_eos_token_id: int | Sequence[int] | None
    typical_p: float | None
    epsilon_cutoff: float | None
    eta_cutoff: float | None
    top_h: float | None
    renormalize_logits: bool | None


def rule_faults(rules: TokenRules) -> list[str]:
    """What is wrong with rules whose parts have structure, one sentence each; the others are plain numbers."""
    faults = []
    for name in ("suppress_tokens", "begin_suppress_tokens"):
        if not _are_ids(getattr(rules, name) or ()):
            faults.append(f"{name} is {getattr(rules, name)!r}, allowed: token ids")
    words = rules.bad_words_ids or ()
    if not (_is_list(words) and all(_is_list(word) and len(word) and _are_ids(word) for word in words)):
        faults.append(f"bad_words_ids is {words!r}, allowed: lists of token ids")
    try:
        right = all(_are_ids(ids) and ids and _is_bias(bias) for ids, bias in rules.biases.items())
    except (TypeError, ValueError):
        right = False
    if not right:
        faults.append(f"sequence_bias is {rules.sequence_bias!r}, allowed: sequences of token ids, each with a number")
    decay = rules.exponential_decay_length_penalty
    if decay is not None and not (
        _is_list(decay) and len(decay) == 2 and _are_ids(decay[:1]) and _is_bias(decay[1]) and 0 < decay[1] < math.inf
    ):
        faults.append(f"exponential_decay_length_penalty is {decay!r}, allowed: [tokens, factor above 0]")
    for name in ("forced_bos_token_id", "forced_eos_token_id"):
        if not _are_ids(ids_of(getattr(rules, name))):
            faults.append(f"{name} is {getattr(rules, name)!r}, allowed: a token id, or -1 for none")
    return faults


def ids_of(value: int | Sequence[int] | None) -> tuple[int, ...]:
    """One id or several as a tuple; none for None and for -1, which some files write instead."""
    if value is None:
        return ()
    several: tuple[Any, ...] = tuple(value) if isinstance(value, (Sequence, np.ndarray)) else (value,)
    return () if several == (-1,) else several


def _are_ids(values: Any) -> bool:
    return _is_list(values) and all(
        isinstance(value, (int, np.integer)) and not isinstance(value, bool) and value >= 0 for value in values
    )


def _is_bias(value: Any) -> bool:
    number = isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)
    return number and not math.isnan(value) and value < math.inf


def _is_list(value: Any) -> bool:
    return isinstance(value, (Sequence, np.ndarray)) and not isinstance(value, (str, bytes))
