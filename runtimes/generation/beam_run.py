"""One generation by beam search, with text: there is nothing to show before its end."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from jisu.exporter.contract.backend import Backend
from jisu.runtimes.generation.beam_search import BeamResult, search_beams
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.result import Result, Timings
from jisu.runtimes.generation.text import Detokenizer, TextCodec
from jisu.runtimes.generation.text_run import begin_state, row_limits, row_rules
from jisu.runtimes.generation.token_loop import Turn


class BeamRun:
    """A batch being searched, with the interface of `runtimes.generation.text_run.TextRun`.

    Args:
        prompts, codec, eos, sources, read, cut, turns: as there.
        options: with ``num_beams``.

    Raises:
        InputError: an empty prompt, or one that leaves no room; options that this model cannot do.
    """

    def __init__(
        self,
        backend: Backend,
        prompts: Sequence[Sequence[int]],
        *,
        options: SamplingOptions,
        codec: TextCodec | None,
        eos: Sequence[int],
        sources: Sequence[Any] | None = None,
        read: Sequence[Sequence[int]] | None = None,
        cut: bool = False,
        turns: Turn | None = None,
    ) -> None:
        self._backend = backend
        self._prompts = prompts
        self._options = options
        self._codec = codec
        self._eos = () if options.ignore_eos else tuple(eos)
        self._read: Sequence[Sequence[int]] = read or (prompts if sources is None else sources)
        self._limits = row_limits(prompts, backend, options, cut=cut)
        self._rules = row_rules(options, prompts, read=self._read, limits=self._limits, ends=self._eos)
        started = time.perf_counter()
        self._turns = turns
        with turns or nullcontext():
            self._state = begin_state(backend, prompts, self._limits, sources=sources, copies=options.num_beams or 1)
        self._seconds = time.perf_counter() - started
        self._beams: list[BeamResult] = []
        self._texts: list[str] = []

    def __iter__(self) -> Iterator[list[tuple[int, str]]]:
        """Yield once, the (row, text) pairs of all answers."""
        start = time.perf_counter()
        self._beams = search_beams(
            self._backend,
            self._state,
            self._prompts,
            options=self._options,
            limits=self._limits,
            eos=self._eos,
            rules=self._rules,
            turns=self._turns,
        )
        self._seconds += time.perf_counter() - start
        self._texts = [self._text(row) for row in range(len(self._beams))]
        yield [(row, text) for row, text in enumerate(self._texts) if text]

    def token_ids(self, row: int) -> tuple[int, ...]:
        """What a row's answer is; nothing before the end."""
        return self._beams[row].token_ids if self._beams else ()

    refillable = False  # all beams end together

    def refill(self, row: int, prompt: Sequence[int], *, seed: int | None) -> bool:
        """Not possible, see ``refillable``."""
        return False

    @property
    def ended_rows(self) -> list[int]:
        """The rows that are through: all of them, at the end."""
        return list(range(len(self._beams)))

    def result(self, row: int) -> Result:
        """The answer of a row; to be called when the iteration has ended."""
        beam = self._beams[row]
        return Result(
            text=self._texts[row],
            token_ids=beam.token_ids,
            prompt_tokens=len(self._read[row]),
            finish_reason=beam.finish_reason,
            logprobs=None,
            seed=None,
            # No token is there before the last: all the time is spent before the first.
            timings=Timings(time_to_first_token=self._seconds, decode_seconds=0.0, decode_steps=0),
        )

    def results(self) -> list[Result]:
        """The answers; to be called when the iteration has ended."""
        return [self.result(row) for row in self.ended_rows]

    def _text(self, row: int) -> str:
        if self._codec is None:
            return ""
        shows, beam = self._options.special_tokens, self._beams[row]
        decoder = Detokenizer(self._codec, self._prompts[row], special_tokens=shows)
        ends = beam.finish_reason == "stop" or (beam.finish_reason == "eos" and not shows)
        said = beam.token_ids[:-1] if ends else beam.token_ids
        return "".join(decoder.push(token) for token in said) + decoder.flush()
