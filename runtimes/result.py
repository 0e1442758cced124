"""What a generation gives back."""

from __future__ import annotations

from dataclasses import dataclass

from runtimes.sampling import TokenLogprobs
from runtimes.stopping import FinishReason


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds spent in the loop: the model, the sampling and nothing of what the caller does with the text.

    ``time_to_first_token`` covers the prompt, ``decode_seconds`` the ``decode_steps`` steps after it. In a batch they
    are the batch's.
    """

    time_to_first_token: float
    decode_seconds: float
    decode_steps: int

    @property
    def decode_tokens_per_second(self) -> float | None:
        """Steps per second (tokens per second of one row); None for a single token."""
        return self.decode_steps / self.decode_seconds if self.decode_seconds > 0 else None


@dataclass(frozen=True, kw_only=True)
class Result:
    """One finished answer.

    ``text`` continues the prompt's text; it is empty when the artifact has no tokenizer. ``token_ids`` are all sampled
    tokens, the one that ended the answer included. ``logprobs`` has one entry for each of them when asked for.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: FinishReason
    logprobs: tuple[TokenLogprobs, ...] | None
    timings: Timings
