"""What a caller can ask of a generation, checked before anything is computed."""

from __future__ import annotations

import difflib
import math
import re
import secrets
from collections.abc import Callable, Mapping, Sequence, Set
from dataclasses import dataclass, field, fields, replace
from typing import Any, Literal

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.generation.foreign_options import HARMLESS, OUR_NAME, without_harmless
from jisu.runtimes.generation.prompts import is_unicode
from jisu.runtimes.generation.token_rules import RuleChanges, TokenRules, rule_faults

DEFAULT_NEW_TOKENS = 256
# Options that narrow what a token is drawn from, with the values that other tools send for "off".
NARROWING: dict[str, tuple[float, ...]] = {
    "top_k": (0, -1),
    "top_p": (1,),
    "min_p": (0,),
}
# Options that a search among whole sequences cannot follow: nothing is drawn, and text is known at its end only.
_UNSEARCHED = ("temperature", "stop", "logprobs")
_FLAGS = ("ignore_eos", "special_tokens")
# Options of such a search.
_SEARCHING = ("length_penalty", "early_stopping")
_COUNTS = ("no_repeat_ngram_size", "encoder_no_repeat_ngram_size", "min_new_tokens", "min_length")
_SHARES = ("typical_p", "epsilon_cutoff", "eta_cutoff", "top_h")
EarlyStopping = bool | Literal["never"]
_SEED_BITS = 32  # enough to differ, short enough to type again

LogitsProcessor = Callable[[Sequence[int], npt.NDArray[np.float64]], npt.NDArray[np.float64]]
"""``(token ids of the row so far, logits float64 [V]) -> logits float64 [V]``."""


@dataclass(frozen=True, kw_only=True)
class SamplingOptions(TokenRules):
    """How tokens are chosen and when to stop. What is not given, or None, follows the model's own settings.

    Those are in the artifact's ``generation_config.json``, see `runtimes.generation.model_defaults`. What neither says
    changes nothing. The logits of a row pass through, in this order: sequence bias, repetition penalties, frequency and
    presence penalty, logit bias, the other rules of `runtimes.generation.token_rules`, the processors in turn,
    temperature, top-h, top-k, top-p, min-p, typical-p, epsilon and eta; then one token is drawn.

    Args:
        max_new_tokens: 1 or more; None for the model's own, 256, or what the model's positions leave room for.
        max_length: the same with the prompt's tokens counted; ``max_new_tokens`` goes before it.
        default_new_tokens: what 256 is replaced by.
        model_defaults: False leaves the model's own settings out.
        do_sample: draw tokens, at a temperature of 1 where none is said; False takes the most likely one.
        temperature: above 0 divides the logits; None or 0 takes the most likely token (greedy). Without a temperature a
            top_k, top_p or min_p that would narrow the choice is refused, since nothing would read it; 0 says that this
            is meant.
        top_k: keep the k most likely tokens, 1 or more; 0 and -1 keep all.
        top_p: keep the most likely tokens that together reach this probability, in [0, 1]; 0 keeps the likeliest.
        min_p: drop tokens less likely than this times the most likely one, in [0, 1].
        repetition_penalty: above 0; divides positive and multiplies negative logits of every token of the prompt and
            the answer (Keskar et al. 2019, CTRL, section 4.1).
        frequency_penalty: subtracted once for each time the answer has the token.
        presence_penalty: subtracted when the answer has the token.
        seed: a whole number from 0 up; None draws a new one. Each result names the seed that repeats it alone, see
            `runtimes.generation.seeds`.
        logit_bias: token id (a number, or its digits as JSON has them) -> number added to its logit; -inf forbids it.
        logits_processors: functions from (token ids so far, logits [V]) to logits [V].
        stop: strings that end the answer; they are not part of it. Special tokens in them are found, too.
        stop_ids: token ids that end the answer, besides the model's own; they are not part of its text.
        ignore_eos: go on after the model's own end tokens.
        special_tokens: write special tokens into the text, the model's end token included.
        logprobs: for each token record its log-probability and those of this many most likely tokens; the
            probabilities are the model's own, before any of the above.
        num_beams: 2 or more follows that many sequences at once and gives the one of the highest score, the sum of its
            log-probabilities over its length to the power of ``length_penalty``; 1 or None follows one. A temperature,
            stop strings and logprobs are refused then.
        length_penalty: above 0 favours longer sequences; 1 when None.
        early_stopping: True ends when ``num_beams`` sequences have ended; False or None when no better one is likely,
            judged by the length so far; ``"never"`` when none is possible.

    Raises:
        InputError: an option out of its range or without effect; all of them are named at once.
    """

    max_new_tokens: int | None = None
    max_length: int | None = None
    default_new_tokens: int | None = None
    model_defaults: bool = True
    do_sample: bool | None = None
    temperature: float | None = None
    top_k: int | None = None
    top_p: float | None = None
    min_p: float | None = None
    repetition_penalty: float | None = None
    frequency_penalty: float | None = None
    presence_penalty: float | None = None
    seed: int | None = None
    logit_bias: Mapping[int, float] = field(default_factory=dict)
    logits_processors: tuple[LogitsProcessor, ...] = ()
    stop: tuple[str, ...] = ()
    stop_ids: tuple[int, ...] = ()
    ignore_eos: bool = False
    special_tokens: bool = False
    logprobs: int | None = None
    num_beams: int | None = None
    length_penalty: float | None = None
    early_stopping: EarlyStopping | None = None

    def __post_init__(self) -> None:
        for name in ("stop", "stop_ids", "logits_processors"):
            object.__setattr__(self, name, _several(getattr(self, name)))
        object.__setattr__(self, "logit_bias", _bias_by_id(self.logit_bias))
        for name in _FLAGS:
            if getattr(self, name) is None:
                object.__setattr__(self, name, False)
        if self.model_defaults is None:
            object.__setattr__(self, "model_defaults", True)
        faults = [fault for fault in self._faults() if fault]
        if faults:
            raise InputError(
                f"Generation options are out of range: {'; '.join(faults)}", fix="Correct or leave out these options."
            )

    def check_use(self) -> None:
        """Raise InputError for an option that nothing reads, or that contradicts another; to be asked when complete."""
        unread = [
            name
            for name, off in NARROWING.items()
            if self.temperature is None and self.do_sample is not False and getattr(self, name) not in (None, *off)
        ]
        if unread:
            raise InputError(
                f"{', '.join(unread)} would have no effect without sampling",
                received="no temperature",
                allowed="a temperature above 0, or 0 for the most likely token",
                fix="Set a temperature, or leave these options out.",
            )
        if self.do_sample and self.is_greedy:
            raise InputError(
                "Nothing can be sampled at a temperature of 0",
                received=f"do_sample with a temperature of {self.temperature}",
                allowed="a temperature above 0",
                fix="Leave one of the two out.",
            )
        if self.searches:
            refused = [name for name in _UNSEARCHED if getattr(self, name) not in (None, (), 0)]
            refused += ["logprobs"] if self.logprobs == 0 else []
            if refused:
                raise InputError(
                    f"Beam search cannot use {', '.join(refused)}",
                    received=f"num_beams {self.num_beams}",
                    allowed="limits, penalties, bias, processors and stop_ids",
                    fix="Leave these options out, or set num_beams to 1.",
                )
        else:
            unread = [name for name in _SEARCHING if getattr(self, name) is not None]
            if unread:
                raise InputError(
                    f"{', '.join(unread)} would have no effect without beam search",
                    received=f"num_beams {self.num_beams}",
                    allowed="num_beams of 2 or more",
                    fix="Set num_beams, or leave these options out.",
                )

    @property
    def searches(self) -> bool:
        """Whether several sequences are followed at once."""
        return self.num_beams is not None and self.num_beams > 1

    @property
    def is_greedy(self) -> bool:
        return not self.temperature

    def with_seed(self) -> SamplingOptions:
        """These options, with a seed drawn from the system where one is needed and none was given."""
        if self.is_greedy or self.seed is not None:
            return self
        return replace(self, seed=secrets.randbits(_SEED_BITS))

    def _faults(self) -> list[str]:
        return [
            _fault("max_new_tokens", self.max_new_tokens, whole=True, low=1),
            _fault("max_length", self.max_length, whole=True, low=1),
            _fault("default_new_tokens", self.default_new_tokens, whole=True, low=1),
            *(
                f"{name} is {getattr(self, name)!r}, allowed: True, False"
                for name in ("do_sample", "model_defaults", "renormalize_logits")
                if not isinstance(getattr(self, name), (bool, type(None)))
            ),
            *(_fault(name, getattr(self, name), whole=True, low=0) for name in _COUNTS),
            *(_fault(name, getattr(self, name), low=0, high=1) for name in _SHARES),
            _fault("encoder_repetition_penalty", self.encoder_repetition_penalty, above=0),
            *rule_faults(self),
            _fault("temperature", self.temperature, low=0),
            "" if self.top_k in NARROWING["top_k"] else _fault("top_k", self.top_k, whole=True, low=1),
            _fault("top_p", self.top_p, low=0, high=1),
            _fault("min_p", self.min_p, low=0, high=1),
            _fault("repetition_penalty", self.repetition_penalty, above=0),
            _fault("frequency_penalty", self.frequency_penalty),
            _fault("presence_penalty", self.presence_penalty),
            _fault("seed", self.seed, whole=True, low=0),
            _fault("logprobs", self.logprobs, whole=True, low=0),
            _fault("num_beams", self.num_beams, whole=True, low=1),
            _fault("length_penalty", self.length_penalty),
            *(
                f"{name} is {value!r}, allowed: True, False"
                for name in _FLAGS
                if not isinstance(value := getattr(self, name), bool)
            ),
            ""
            if self.early_stopping is None or self.early_stopping in (True, False, "never")
            else f"early_stopping is {self.early_stopping!r}, allowed: True, False, 'never'",
            *(_fault("stop_ids", token, whole=True, low=0) for token in self.stop_ids),
            *(_fault("logit_bias token", token, whole=True, low=0) for token in self.logit_bias),
            *(
                f"logit_bias of token {token} is {bias!r}, allowed: a number or -inf"
                for token, bias in self.logit_bias.items()
                if not _is_number(bias) or math.isnan(bias) or bias == math.inf
            ),
            *(
                f"stop has {text!r}, allowed: Unicode strings that are not empty"
                for text in self.stop
                if not isinstance(text, str) or not text or not is_unicode(text)
            ),
            *(
                f"logits_processors has {function!r}, allowed: functions"
                for function in self.logits_processors
                if not callable(function)
            ),
        ]


class OptionChanges(RuleChanges, total=False):
    """The fields of `SamplingOptions`, as keyword arguments."""

    max_new_tokens: int | None
    max_length: int | None
    default_new_tokens: int | None
    model_defaults: bool
    do_sample: bool | None
    temperature: float | None
    top_k: int | None
    top_p: float | None
    min_p: float | None
    repetition_penalty: float | None
    frequency_penalty: float | None
    presence_penalty: float | None
    seed: int | None
    logit_bias: Mapping[int, float] | None
    logits_processors: LogitsProcessor | Sequence[LogitsProcessor] | None
    stop: str | Sequence[str] | None
    stop_ids: int | Sequence[int] | None
    ignore_eos: bool | None
    special_tokens: bool | None
    logprobs: int | None
    num_beams: int | None
    length_penalty: float | None
    early_stopping: EarlyStopping | None


def changed_options(options: SamplingOptions | None, changes: OptionChanges) -> SamplingOptions:
    """``options`` (or the defaults) with ``changes``, those of `runtimes.generation.foreign_options` among them.

    Raises:
        InputError: an unknown option, with the nearest one, or what another library's is called here.
    """
    known = [item.name for item in fields(SamplingOptions)]
    ours = without_harmless(changes)
    unknown = [name for name in ours if name not in known]
    if unknown:
        raise InputError(
            "There is no such generation option",
            received=", ".join(f"{name}={shown(ours[name])}" for name in unknown),
            allowed=", ".join(known),
            fix=_advice(unknown[0], known),
        )
    return replace(options or SamplingOptions(), **ours)


def _advice(name: str, known: Sequence[str]) -> str:
    if name in HARMLESS:
        return f"Leave it out: {' or '.join(map(repr, HARMLESS[name]))} is all that there is."
    if name in OUR_NAME:
        return f"It is called {OUR_NAME[name]} here."
    near = difflib.get_close_matches(name, known, n=1)
    return f"Did you mean {near[0]}?" if near else "Leave it out."


def _several(value: object) -> tuple[Any, ...]:
    """What was given for a list: nothing, one thing, or several; the order of a set does not matter here."""
    if value is None:
        return ()
    if isinstance(value, (Sequence, Set, np.ndarray)) and not isinstance(value, (str, bytes)):
        return tuple(value)
    return (value,)


def _bias_by_id(bias: object) -> Mapping[Any, Any]:
    """A bias for each token id; raises InputError for what is no mapping."""
    if bias is None:
        return {}
    if not isinstance(bias, Mapping):
        raise InputError(
            "Generation options are out of range: logit_bias is no mapping",
            received=shown(bias),
            allowed="token id -> number",
            fix="Give a dictionary.",
        )
    return {
        int(token) if isinstance(token, str) and re.fullmatch("[0-9]+", token) else token: value
        for token, value in bias.items()
    }


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float, np.integer, np.floating)) and not isinstance(value, bool)


def _fault(
    name: str,
    value: object,
    *,
    whole: bool = False,
    low: float | None = None,
    above: float | None = None,
    high: float | None = None,
) -> str:
    if value is None:
        return ""
    kind = "a whole number" if whole else "a number"
    limits = [
        f"{word} {limit}" for word, limit in (("from", low), ("above", above), ("up to", high)) if limit is not None
    ]
    right_kind = isinstance(value, (int, np.integer)) if whole else _is_number(value)
    if right_kind and not isinstance(value, bool):
        # Compared as it is: a whole number may be larger than any float.
        number: Any = value
        inside = (
            (low is None or number >= low) and (above is None or number > above) and (high is None or number <= high)
        )
        if inside and (whole or math.isfinite(number)):
            return ""
    return f"{name} is {shown(value)}, allowed: {' '.join([kind, *limits])}"
