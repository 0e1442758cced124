"""What a generation gives back."""

from __future__ import annotations

from dataclasses import dataclass

from jisu.runtimes.generation.sampling import TokenLogprobs
from jisu.runtimes.generation.stopping import FinishReason


@dataclass(frozen=True, kw_only=True)
class Timings:
    """Seconds spent in the loop: the model, the sampling and nothing of what the caller does with the text.

    ``time_to_first_token`` covers the prompt, ``decode_seconds`` the ``decode_steps`` steps after it until this answer
    ended. The rows of a batch take their steps together: a step's seconds count in full for every row that was in it,
    so the rows' seconds must not be added up, nor their speeds.
    """

    time_to_first_token: float
    decode_seconds: float
    decode_steps: int

    @property
    def decode_tokens_per_second(self) -> float | None:
        """Tokens per second of this row alone; None for a single token."""
        return self.decode_steps / self.decode_seconds if self.decode_seconds > 0 else None


@dataclass(frozen=True, kw_only=True)
class Result:
    """One finished answer.

    ``text`` continues the prompt's text; it is empty when the artifact has no tokenizer. ``token_ids`` are all sampled
    tokens, the one that ended the answer included. ``logprobs`` has one entry for each of them when asked for.
    ``seed`` repeats the answer, alone or among others; None where nothing was drawn.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: FinishReason
    seed: int | None
    logprobs: tuple[TokenLogprobs, ...] | None
    timings: Timings
