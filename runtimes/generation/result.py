"""What a generation gives back."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import Any

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
    tokens, the one that ended the answer included. ``prompt_tokens`` counts what the model read.

    ``finish_reason`` is "eos" when the model ended the answer itself, "stop" at a string of ``stop`` or a token of
    ``stop_ids``, "length" when there were ``max_new_tokens`` tokens or no more positions.

    ``logprobs`` has one entry for each token of the answer when the option ``logprobs`` asked for them, else None.
    ``seed`` repeats the answer, alone or among others; None where nothing was drawn.
    """

    text: str
    token_ids: tuple[int, ...]
    prompt_tokens: int
    finish_reason: FinishReason
    seed: int | None
    logprobs: tuple[TokenLogprobs, ...] | None
    timings: Timings

    @property
    def new_tokens(self) -> int:
        """How many tokens the answer has, the one that ended it included."""
        return len(self.token_ids)

    def to_dict(self) -> dict[str, Any]:
        """All of it as JSON writes it: lists for tuples, and the counts and the speed beside what they come from."""
        return {
            "text": self.text,
            "token_ids": list(self.token_ids),
            "prompt_tokens": self.prompt_tokens,
            "new_tokens": self.new_tokens,
            "finish_reason": self.finish_reason,
            "seed": self.seed,
            "logprobs": None if self.logprobs is None else [item.to_dict() for item in self.logprobs],
            "timings": {
                **asdict(self.timings),
                "decode_tokens_per_second": self.timings.decode_tokens_per_second,
            },
        }

    def to_json(self) -> str:
        """`to_dict` as one line of JSON."""
        return json.dumps(self.to_dict(), ensure_ascii=False)
