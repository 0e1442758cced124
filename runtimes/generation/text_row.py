"""One answer that is being generated: its tokens, and what of them has become text."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.result import Result, Timings
from jisu.runtimes.generation.sampling import RowSampler, TokenLogprobs
from jisu.runtimes.generation.special_tokens import SpecialTokens
from jisu.runtimes.generation.stopping import FinishReason, StopStrings
from jisu.runtimes.generation.text import CONTEXT, Detokenizer, TextCodec
from jisu.runtimes.generation.token_loop import SampledToken


class TextRow:
    """A row of a batch from its prompt on.

    Args:
        prompt: token ids that the answer continues.
        read: those that the model reads: the prompt, or what an encoder does.
        sampler: chooses the row's tokens.
        options: checked ones.
        codec: None runs without text.
        seed: of the answer; None where nothing is drawn.
        first_step: how many steps its batch had made before.
    """

    def __init__(
        self,
        prompt: Sequence[int],
        *,
        read: Sequence[int],
        sampler: RowSampler,
        options: SamplingOptions,
        codec: TextCodec | None,
        seed: int | None,
        first_step: int = 0,
    ) -> None:
        self.sampler = sampler
        self.first_step = first_step
        self.tokens: list[int] = []
        self._prompt, self._prompt_tokens = prompt, len(read)
        self._codec, self._seed = codec, seed
        self._last_step = first_step
        shows = self._shows_special = options.special_tokens
        self._decoder = Detokenizer(codec, prompt, special_tokens=shows) if codec else None
        # Where they are shown, stop strings see them as they are.
        self._special = SpecialTokens({} if shows or codec is None else codec.special_texts, options.stop)
        self._stops = StopStrings(self._special.stops)
        self._texts: list[str] = []
        self._logprobs: list[TokenLogprobs] | None = None if options.logprobs is None else []

    def push(self, item: SampledToken, reason: FinishReason | None, *, step: int) -> tuple[str, bool]:
        """Add a token, which ends the row for this reason or None.

        Returns:
            The text that became complete, and whether a stop string ends the row, whatever else does.
        """
        self._last_step = step
        if self._logprobs is not None and item.logprobs is not None:
            self._logprobs.append(self._with_texts(item.logprobs))
        self.tokens.append(item.token)
        if self._decoder is None:
            return "", False
        silent = item.ends and not (self._shows_special and reason == "eos")
        text = "" if silent else self._decoder.push(item.token) + self._special.mark(item.token)
        shown, stopped = self._stops.push(text)
        if not stopped and reason is not None:
            rest, stopped = self._stops.push(self._decoder.flush())
            shown += rest if stopped else rest + self._stops.flush()
        shown = self._special.shown(shown)
        self._texts.append(shown)
        return shown, stopped

    def result(self, reason: FinishReason, *, step_seconds: Sequence[float], encode_seconds: float) -> Result:
        """What the row has become.

        Args:
            reason: why it ended.
            step_seconds: of each step of its batch, those before its first one included.
            encode_seconds: until its source was encoded; 0 without one.
        """
        first, last = self.first_step, self._last_step
        return Result(
            text="".join(self._texts),
            token_ids=tuple(self.tokens),
            prompt_tokens=self._prompt_tokens,
            finish_reason=reason,
            logprobs=None if self._logprobs is None else tuple(self._logprobs),
            seed=self._seed,
            timings=Timings(
                time_to_first_token=encode_seconds + step_seconds[first],
                decode_seconds=sum(step_seconds[first + 1 : last + 1]),
                decode_steps=len(self.tokens) - 1,
            ),
        )

    def _with_texts(self, logprobs: TokenLogprobs) -> TokenLogprobs:
        if self._codec is None:
            return logprobs
        before = [*self._prompt[-CONTEXT:], *self.tokens[-CONTEXT:]]
        return replace(
            logprobs,
            text=self._codec.token_text(logprobs.token, before),
            top_texts=tuple(self._codec.token_text(token, before) for token, _ in logprobs.top),
        )
