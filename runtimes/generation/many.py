"""Thousands of prompts in batches of like lengths, with each answer as soon as it is there."""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence, Sized
from dataclasses import dataclass
from itertools import islice
from typing import Any, Literal, get_args

import numpy as np

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.runtimes.generation import DEFAULT_BATCH
from jisu.runtimes.generation.result import Result
from jisu.runtimes.generation.runs import Run
from jisu.runtimes.generation.seeds import repeated_seed

# Batches whose prompts are read ahead, so that rows of like lengths can be put together.
_READ_AHEAD = 16
OnError = Literal["raise", "yield"]


@dataclass(frozen=True, kw_only=True)
class Prompt:
    """One of many prompts: a text or a conversation, and the seed of its answer.

    Args:
        text: what to answer; None when there are messages.
        messages: a conversation to answer, as `Engine.chat` takes it.
        seed: of this answer, where tokens are drawn; None follows the options' seed.
    """

    text: str | None = None
    messages: Sequence[Mapping[str, Any]] | None = None
    seed: int | None = None

    def __post_init__(self) -> None:
        if (self.text is None) == (self.messages is None):
            raise InputError(
                "A prompt is a text or a conversation",
                received="both" if self.text is not None else "neither",
                allowed="text, or messages",
                fix="Give one of them.",
            )
        if self.seed is not None and (
            not isinstance(self.seed, (int, np.integer)) or isinstance(self.seed, bool) or self.seed < 0
        ):
            raise InputError(
                "The seed of a prompt is out of range",
                received=shown(self.seed),
                allowed="a whole number from 0 up",
                fix="Correct the seed, or leave it out to have one drawn.",
            )


@dataclass(frozen=True, kw_only=True)
class PromptResult:
    """What became of one of many prompts.

    ``index`` counts the prompts from 0 in the order in which they came in; ``prompt`` is what was given. ``error`` says
    why there is no answer; None where there is one.
    """

    index: int
    prompt: str | Prompt
    error: InputError | None
    answer: Result | None

    @property
    def result(self) -> Result:
        """The answer; raises the prompt's own InputError where there is none."""
        if self.error is not None:
            raise self.error
        assert self.answer is not None, "a prompt has an answer or an error"
        return self.answer


@dataclass(frozen=True, kw_only=True)
class _Row:
    index: int
    prompt: str | Prompt
    ids: list[int]
    seed: int | None


def check_many(prompts: object, *, batch_size: object, on_error: object) -> None:
    """Raise InputError for what is no source of prompts, no size of a batch, or no way to treat errors."""
    if isinstance(prompts, (str, bytes)) or not isinstance(prompts, Iterable):
        raise InputError(
            "These are not many prompts",
            received=shown(prompts),
            allowed="a list, a file, or anything else that gives prompts one by one",
            fix="Give one prompt to generate.",
        )
    if not isinstance(batch_size, (int, np.integer)) or isinstance(batch_size, bool) or batch_size < 1:
        raise InputError(
            "The batch size is out of range",
            received=f"batch_size {shown(batch_size)}",
            allowed="a whole number from 1 up",
            fix="Correct batch_size, or leave it out.",
        )
    if on_error not in get_args(OnError):
        raise InputError(
            "on_error has an unknown value",
            received=f"on_error {shown(on_error)}",
            allowed=" or ".join(get_args(OnError)),
            fix="Choose one of these.",
        )


def answer_many(
    prompts: Iterable[str | Prompt],
    *,
    encode: Callable[[str | Prompt], list[int]],
    begin: Callable[[Sequence[Sequence[int]], Sequence[int | None]], Run],
    seed: int | None,
    batch_size: int = DEFAULT_BATCH,
    in_order: bool = False,
    on_error: OnError = "raise",
    progress: Callable[[int], object] | None = None,
) -> Iterator[PromptResult]:
    """Answer prompts, reading ``16 * batch_size`` of them ahead; yields each as it ends.

    A row that is through gives its place to the next prompt, where the backend can do that.

    Args:
        encode: token ids of a prompt.
        begin: starts the answers to a batch, each with its seed.
        seed: of answers whose prompt names none; None where nothing is drawn.
        batch_size: rows of a batch, at most.
        in_order: yield the answers in the order of the prompts, each when all before it are through.
        on_error: "raise" ends with the error of the first prompt that has one, "yield" makes it that prompt's result.
        progress: called with the number of prompts that are through, each time it changes.

    Raises:
        InputError: a prompt that the model cannot answer, with ``on_error`` of "raise".
    """
    queue = _Queue(prompts, encode=encode, seed=seed, ahead=_READ_AHEAD * batch_size, on_error=on_error)
    through = 0
    finished: dict[int, PromptResult] = {}
    next_index = 0
    for item in _answer_all(queue, begin=begin, batch_size=batch_size, on_error=on_error):
        through += 1
        if progress is not None:
            progress(through)
        if not in_order:
            yield item
            continue
        finished[item.index] = item
        while next_index in finished:
            yield finished.pop(next_index)
            next_index += 1


class _Queue:
    """The prompts to come, of which some are read ahead, the longest first.

    ``at_hand`` says that reading more never waits for somebody: they are a list, and no program that may want to see
    an answer before it asks on.
    """

    def __init__(
        self,
        prompts: Iterable[str | Prompt],
        *,
        encode: Callable[[str | Prompt], list[int]],
        seed: int | None,
        ahead: int,
        on_error: OnError,
    ) -> None:
        self.at_hand = isinstance(prompts, Sized)
        self.rows: deque[_Row] = deque()
        self.exhausted = False
        self._source = iter(enumerate(prompts))
        self._encode, self._seed = encode, seed
        self._ahead, self._on_error = ahead, on_error
        # How often each row was read, over all prompts: those that read the same get seeds of their own.
        self._seen: Counter[tuple[int, ...]] = Counter()

    def read(self) -> Iterator[PromptResult]:
        """Read ahead; yields those that cannot be answered."""
        read = list(islice(self._source, self._ahead))
        self.exhausted = not read
        rows = []
        for index, prompt in read:
            try:
                ids = self._encode(prompt)
            except InputError as error:
                yield _refused(_Row(index=index, prompt=prompt, ids=[], seed=None), error, on_error=self._on_error)
                continue
            rows.append(_Row(index=index, prompt=prompt, ids=ids, seed=self._row_seed(prompt, ids)))
        # The longest first: what there is no memory for is known at once.
        self.rows.extend(sorted(rows, key=lambda row: len(row.ids), reverse=True))

    def _row_seed(self, prompt: str | Prompt, ids: Sequence[int]) -> int | None:
        own = prompt.seed if isinstance(prompt, Prompt) else None
        seed = own if own is not None else repeated_seed(self._seed, self._seen[tuple(ids)])
        self._seen[tuple(ids)] += own is None
        return None if self._seed is None else seed


def _answer_all(
    queue: _Queue,
    *,
    begin: Callable[[Sequence[Sequence[int]], Sequence[int | None]], Run],
    batch_size: int,
    on_error: OnError,
) -> Iterator[PromptResult]:
    while True:
        if not queue.rows:
            yield from queue.read()
        if queue.rows:
            batch = [queue.rows.popleft() for _ in range(min(batch_size, len(queue.rows)))]
            yield from _answer_batch(batch, queue, begin=begin, on_error=on_error)
        elif queue.exhausted:
            return


def _answer_batch(
    rows: list[_Row],
    queue: _Queue | None,
    *,
    begin: Callable[[Sequence[Sequence[int]], Sequence[int | None]], Run],
    on_error: OnError,
) -> Iterator[PromptResult]:
    """Answer some rows together; those of the queue take the places of rows that are through, where the run allows."""
    try:
        run = begin([row.ids for row in rows], [row.seed for row in rows])
    except InputError as error:
        if len(rows) == 1:
            yield _refused(rows[0], error, on_error=on_error)
            return
        # One of them is too long for the model: alone, each says for itself.
        for row in rows:
            yield from _answer_batch([row], None, begin=begin, on_error=on_error)
        return
    answered: set[int] = set()
    for _ in run:
        for place in set(run.ended_rows) - answered:
            answered.add(place)
            row = rows[place]
            yield PromptResult(index=row.index, prompt=row.prompt, error=None, answer=run.result(place))
        if queue is not None and run.refillable:
            yield from _refill(run, rows, answered, queue, on_error=on_error)


def _refill(run: Run, rows: list[_Row], free: set[int], queue: _Queue, *, on_error: OnError) -> Iterator[PromptResult]:
    """Give free places to rows of the queue, as long as the run has room for the next one; yields the refused ones."""
    while free:
        if not queue.rows and queue.at_hand and not queue.exhausted:
            yield from queue.read()
        if not queue.rows:
            return
        place, row = min(free), queue.rows.popleft()
        try:
            joins = run.refill(place, row.ids, seed=row.seed)
        except InputError as error:
            yield _refused(row, error, on_error=on_error)
            continue
        if not joins:
            queue.rows.appendleft(row)
            return
        rows[place] = row
        free.remove(place)


def _refused(row: _Row, error: InputError, *, on_error: OnError) -> PromptResult:
    if on_error == "raise":
        raise error
    return PromptResult(index=row.index, prompt=row.prompt, error=error, answer=None)
