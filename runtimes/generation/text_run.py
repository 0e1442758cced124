"""One generation with text: runs the token loop over a batch, decodes each row and watches for stop strings."""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any

from jisu.exporter.contract.backend import Backend, EncoderBackend, RefillableState, State
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import prompt_name
from jisu.runtimes.backends.token_ids import check_ids
from jisu.runtimes.generation.options import DEFAULT_NEW_TOKENS, SamplingOptions
from jisu.runtimes.generation.result import Result
from jisu.runtimes.generation.row_rules import RowRules
from jisu.runtimes.generation.sampling import RowSampler
from jisu.runtimes.generation.seeds import row_random, row_seeds
from jisu.runtimes.generation.stopping import Stopping
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.generation.text_row import TextRow
from jisu.runtimes.generation.token_loop import SampledToken, Turn, generate_tokens


class TextRun:
    """A batch being generated.

    Args:
        prompts: token ids of each row.
        codec: None runs without text; stop strings are refused then.
        eos: the model's end tokens.
        state: one that holds a beginning of the prompts; None makes one for the prompts and the new tokens.
        sources: of a model with an encoder, what it reads; the prompts are what its answers begin with.
        read: the token ids that rules take for what was read; those of the sources when None, which may be none.
        cut: where there is no room for as many new tokens as were asked for, give what fits.
        seeds: of each row; None makes them from the options' seed.
        turns: entered for each call of the backend, where several threads share it.

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
        state: State | None = None,
        sources: Sequence[Any] | None = None,
        read: Sequence[Sequence[int]] | None = None,
        cut: bool = False,
        seeds: Sequence[int | None] | None = None,
        turns: Turn | None = None,
    ) -> None:
        if options.searches:
            raise InputError(
                "A conversation cannot use beam search",
                received=f"num_beams {options.num_beams}",
                allowed="num_beams of 1",
                fix="Leave num_beams out.",
            )
        if codec is None and options.stop:
            raise InputError(
                "Stop strings need a tokenizer, and this artifact has none",
                received=options.stop,
                allowed="stop_ids",
                fix="Name the end tokens by their ids.",
            )
        self._backend, self._options, self._codec, self._cut = backend, options, codec, cut
        check_ids(prompts, backend.vocab_size)
        limits = row_limits(prompts, backend, options, cut=cut)
        self._encodes = sources is not None
        self._seconds: list[float] = []
        if read is None:
            read = prompts if sources is None else sources
        if seeds is None:
            seeds = row_seeds(None if options.is_greedy else options.with_seed().seed, read)
        self._ends = () if options.ignore_eos else tuple(eos)
        self._rows = [self._row(*row) for row in zip(prompts, read, limits, seeds, strict=True)]
        self._samplers = [row.sampler for row in self._rows]
        started = time.perf_counter()
        if state is None:
            with turns or nullcontext():
                state = begin_state(backend, prompts, limits, sources=sources)
        # An encoder has done its work by now, and nobody can have a token before.
        self._encode_seconds = 0.0 if sources is None else time.perf_counter() - started
        self._state = state
        self._stopping = Stopping(limits=limits, eos=self._ends, stop_ids=options.stop_ids)
        self._joining: dict[int, Sequence[int]] = {}
        self._steps = generate_tokens(
            backend,
            state,
            prompts,
            samplers=self._samplers,
            stopping=self._stopping,
            logprobs=options.logprobs,
            turns=turns,
            joining=self._joining,
        )

    def __iter__(self) -> Iterator[list[tuple[int, str]]]:
        """Yield after each step the (row, text) pairs that became complete."""
        while (sampled := self._timed_step()) is not None:
            pieces = [(item.row, self._push(item)) for item in sampled]
            yield [(row, text) for row, text in pieces if text]

    def token_ids(self, row: int) -> tuple[int, ...]:
        """What a row has sampled so far."""
        return tuple(self._rows[row].tokens)

    @property
    def encode_seconds(self) -> float:
        """Seconds until the sources were encoded, which come before the first step; 0 without sources."""
        return self._encode_seconds

    @property
    def step_seconds(self) -> tuple[float, ...]:
        """Seconds of each step so far, the first with the prompt; the model and the sampling, nothing of the text."""
        return tuple(self._seconds)

    @property
    def ended_rows(self) -> list[int]:
        """The rows that are through; the others go on."""
        return [row for row, reason in enumerate(self._stopping.reasons) if reason is not None]

    @property
    def refillable(self) -> bool:
        """Whether `refill` is possible: not every backend can bring rows into a batch that has begun."""
        return not self._encodes and isinstance(self._state, RefillableState)

    def refill(self, row: int, prompt: Sequence[int], *, seed: int | None) -> bool:
        """Give the place of a row that is through, and whose result was taken, to another prompt.

        Returns:
            False, and nothing is changed, where the state has no room for the prompt and its answer.

        Raises:
            InputError: as for a prompt of the beginning.
        """
        check_ids([prompt], self._backend.vocab_size)
        (limit,) = row_limits([prompt], self._backend, self._options, cut=self._cut)
        if len(prompt) + limit > self._state.capacity:
            return False
        self._rows[row] = self._row(prompt, prompt, limit, seed)
        self._samplers[row] = self._rows[row].sampler
        self._stopping.begin(row, limit)
        self._joining[row] = prompt
        return True

    def result(self, row: int) -> Result:
        """What a row that is through has become."""
        reason = self._stopping.reasons[row]
        assert reason is not None, "a result is there when its row has ended"
        return self._rows[row].result(reason, step_seconds=self._seconds, encode_seconds=self._encode_seconds)

    def results(self) -> list[Result]:
        """What each row has become; to be called when the iteration has ended."""
        return [self.result(row) for row in range(len(self._rows))]

    def _row(self, prompt: Sequence[int], read: Sequence[int], limit: int, seed: int | None) -> TextRow:
        (rules,) = row_rules(self._options, [prompt], read=[read], limits=[limit], ends=self._ends)
        sampler = RowSampler(
            self._options,
            prompt=prompt,
            vocab_size=self._backend.vocab_size,
            random=row_random(seed, read),
            rules=rules,
        )
        return TextRow(
            prompt,
            read=read,
            sampler=sampler,
            options=self._options,
            codec=self._codec,
            seed=seed,
            first_step=len(self._seconds),
        )

    def _timed_step(self) -> list[SampledToken] | None:
        start = time.perf_counter()
        sampled = next(self._steps, None)
        if sampled is not None:
            self._seconds.append(time.perf_counter() - start)
        return sampled

    def _push(self, item: SampledToken) -> str:
        row = item.row
        text, stopped = self._rows[row].push(item, self._stopping.reasons[row], step=len(self._seconds) - 1)
        if stopped:
            self._stopping.finish(row, "stop")
        return text


def row_limits(
    prompts: Sequence[Sequence[int]], backend: Backend, options: SamplingOptions, *, cut: bool = False
) -> list[int]:
    """New tokens that each row may have; raises InputError as `new_token_limit` does."""
    return [
        new_token_limit(
            len(prompt),
            backend.max_positions,
            options,
            name=prompt_name(row, len(prompts)),
            longer=getattr(backend, "longer", None),
            cut=cut,
        )
        for row, prompt in enumerate(prompts)
    ]


def row_rules(
    options: SamplingOptions,
    prompts: Sequence[Sequence[int]],
    *,
    read: Sequence[Sequence[int]],
    limits: Sequence[int],
    ends: Sequence[int],
) -> list[RowRules]:
    """The rules of each row.

    Args:
        read: what the model reads for each row.
        limits: new tokens that each row may have.
        ends: tokens that end an answer.
    """
    return [
        RowRules(options, prompt=len(prompt), read=source, limit=limit, ends=ends)
        for prompt, source, limit in zip(prompts, read, limits, strict=True)
    ]


def begin_state(
    backend: Backend,
    prompts: Sequence[Sequence[int]],
    limits: Sequence[int],
    *,
    sources: Sequence[Any] | None = None,
    copies: int = 1,
) -> State:
    """A state with room for each prompt and its new tokens, which holds the sources where there are some.

    Args:
        copies: rows for each prompt.
    """
    needed = max(len(prompt) + limit for prompt, limit in zip(prompts, limits, strict=True))
    if sources is None:
        return backend.new_state(len(prompts) * copies, needed)
    assert isinstance(backend, EncoderBackend), "sources are for a model with an encoder"
    return backend.encode(sources, capacity=needed, copies=copies)


def new_token_limit(
    prompt: int,
    positions: int | None,
    options: SamplingOptions,
    *,
    name: str,
    longer: str | None = None,
    cut: bool = False,
) -> int:
    """New tokens that a row may have: what was asked for, or the default within what the positions leave room for.

    The default is what the model's own settings say, see `runtimes.generation.model_defaults`, or else 256.

    Args:
        prompt: how many tokens it has.
        positions: how many the model has; None for any number.
        name: what an error calls the prompt.
        longer: how to get more positions, where it is not the model that has no more.
        cut: give what fits where more was asked for.

    Raises:
        InputError: the prompt has no tokens or leaves no room, or more was asked for than there is room.
    """
    if prompt < 1:
        raise InputError(
            f"{name} has no tokens", received="an empty prompt", allowed="some text", fix="Write something."
        )
    default = options.default_new_tokens or DEFAULT_NEW_TOKENS
    if options.max_length is not None and options.max_new_tokens is None:
        default = options.max_length - prompt
        if default < 1:
            raise InputError(
                f"{name} leaves no room for an answer",
                received=f"{prompt} tokens",
                allowed=f"at most {options.max_length - 1}, max_length is {options.max_length}",
                fix="Set max_new_tokens, which overrides max_length of the model's settings.",
            )
    if positions is None:
        return options.max_new_tokens or default
    owner = "plan" if longer else "model"
    room = positions - prompt
    if room < 1:
        raise InputError(
            f"{name} is too long for this {owner}",
            received=f"{prompt} tokens",
            allowed=f"at most {positions - 1} of the {owner}'s {positions} positions, one is for the answer",
            fix=f"Shorten it, or {longer}." if longer else "Shorten it.",
        )
    if options.max_new_tokens is not None and options.max_new_tokens > room and not cut:
        raise InputError(
            f"{name} and its answer would go past the {owner}'s positions",
            received=f"{prompt} prompt tokens and {options.max_new_tokens} new ones",
            allowed=f"{positions} together",
            fix=f"Ask for at most {room} new tokens, or {longer or 'shorten the prompt'}.",
        )
    return min(options.max_new_tokens or default, room)
