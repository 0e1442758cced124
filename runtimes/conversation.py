"""A conversation of several turns that computes only what is new in each of them."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.contract.backend import Backend, State
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.chat.chat_arguments import drop_oldest_turns, request_fields
from jisu.runtimes.chat.messages import ChatRequest
from jisu.runtimes.engine import Engine
from jisu.runtimes.generation.async_run import StepThread
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.result import Result
from jisu.runtimes.generation.text_run import TextRun, new_token_limit

if TYPE_CHECKING:
    from types import TracebackType

    from typing_extensions import Self


class Conversation:
    """Keeps the messages and the model's state between turns.

    Each turn renders the whole history again; the state keeps the tokens that the new rendering has in common with the
    last one and the rest is computed. There is one open answer at a time: the next message, a reset and a closed answer
    end it, and it stays in the history as far as it came. A message whose answer was never begun is taken back.

    Args:
        system: a first message that tells the model how to behave.
        options: of every answer; one that the model has no room for is shorter.
        drop_oldest: leave the oldest turns out of what the model reads where the conversation becomes too long for it;
            ``messages`` keeps them.
        tools: functions that the model may call, as `Engine.chat` takes them.
        template_variables: what else the chat template reads, by name.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        system: str | None = None,
        options: SamplingOptions | None = None,
        drop_oldest: bool = False,
        tools: Sequence[Mapping[str, Any]] | None = None,
        template_variables: Mapping[str, Any] | None = None,
    ) -> None:
        self._engine = engine
        self._options = options or SamplingOptions()
        self._system = system
        self._drops = drop_oldest
        self._fields = request_fields(tools=tools, template_variables=template_variables)
        self._state: State | None = None
        self._held: list[int] = []
        self._open: Answer | None = None
        self.messages: list[dict[str, Any]] = []
        self.reused_tokens = 0
        self.dropped_messages = 0
        self.last_result: Result | None = None
        self.reset()

    def __getstate__(self) -> dict[str, object]:
        """What a pickle or a copy keeps: everything but the model's state, which is computed again."""
        return {**self.__dict__, "_state": None, "_held": [], "_open": None}

    def reset(self) -> None:
        """Forget every message but the system's."""
        self._end_answer("the conversation was reset")
        self.messages = [] if self._system is None else [{"role": "system", "content": self._system}]
        self.dropped_messages = 0
        self.last_result = None

    def ask(self, text: str) -> Answer:
        """Answer a message piece by piece.

        ``last_result`` is the answer when it is finished, None when it was broken off.

        Raises:
            InputError: no chat template, or the history has become too long; it is then as it was before.
        """
        self._end_answer("another message was sent")
        self.last_result = None
        message = {"role": "user", "content": text}
        self.messages.append(message)
        try:
            run = self._begin(self._engine.message_ids(self._request()))
        except BaseException:
            self.messages.pop()
            raise
        self._open = Answer(self, run, message)
        return self._open

    def aask(self, text: str) -> AsyncAnswer:
        """Answer a message piece by piece, for ``async for``; raises as `ask` does, with the first piece."""
        return AsyncAnswer(self._engine.steps, lambda: self.ask(text))

    def _request(self) -> ChatRequest:
        """What the model reads: all messages, or those that leave room for an answer."""
        request = ChatRequest(messages=self.messages, **self._fields)
        if self._drops:
            kept = drop_oldest_turns(
                self.messages,
                lambda some: self._engine.has_room(ChatRequest(messages=some, **self._fields), self._options),
            )
            self.dropped_messages = len(self.messages) - len(kept)
            request = ChatRequest(messages=kept, **self._fields)
        return request

    def _end_answer(self, reason: str) -> None:
        if self._open is not None:
            self._open._end(reason)

    def _record(self, run: TextRun, answer: str, *, unanswered: Mapping[str, Any] | None) -> None:
        """Put what was answered into the history, and remember which tokens the state holds."""
        self._open = None
        if unanswered is None:
            self.messages.append({"role": "assistant", "content": answer})
        else:
            self.messages = [message for message in self.messages if message is not unanswered]
        self._held += run.token_ids(0)
        if self._state is not None:
            del self._held[int(self._state.lengths[0]) :]

    def _text(self, run: TextRun, pieces: Sequence[str]) -> str:
        """What an answer said, without the special tokens that may have been shown."""
        if not self._options.special_tokens:
            return "".join(pieces)
        return self._engine.detokenize(run.token_ids(0))

    def _begin(self, prompt: Sequence[int]) -> TextRun:
        engine = self._engine
        options = engine.completed_options(self._options, searches=False)
        needed = len(prompt) + new_token_limit(
            len(prompt), engine.backend.max_positions, options, name="The conversation", cut=True
        )
        if self._state is None or self._state.capacity < needed:
            # Twice what is needed now, so that a long conversation is computed anew only a few times.
            self._state = engine.backend.new_state(1, _bounded(2 * needed, engine.backend))
            self._held = []
        # At least one token has to run to give logits.
        self.reused_tokens = _keep(self._state, min(_common(self._held, prompt), len(prompt) - 1))
        self._held = list(prompt)
        return TextRun(
            engine.backend,
            [prompt],
            options=options,
            codec=engine.codec,
            eos=engine.artifact.manifest.model.eos,
            state=self._state,
            cut=True,
            turns=engine.generator.turns,
        )


class Answer:
    """The pieces of one answer, as the model says them.

    It may be closed at any time, by `close` or the end of a ``with`` block; one that the conversation itself has ended
    raises InputError when more of it is wanted.
    """

    def __init__(self, conversation: Conversation, run: TextRun, message: Mapping[str, Any]) -> None:
        self._conversation = conversation
        self._run, self._message = run, message
        self._steps = iter(run)
        self._pieces: list[str] = []
        self._ready: list[str] = []
        self._is_open, self._begun = True, False
        self._ended_by: str | None = None

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        while self._compute():
            pass
        if not self._ready:
            raise StopIteration
        return self._take()

    def close(self) -> None:
        """Compute no further; what was said stays in the history. Safe to call twice, and at the end."""
        self._finish()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _compute(self) -> bool:
        """Make one step, unless there is a piece already or there are no more; returns whether it was made."""
        if self._ready:
            return False
        if self._ended_by is not None:
            raise InputError(
                "This answer was ended before it was finished",
                received=f"a request for more of it, when {self._ended_by}",
                allowed="one open answer at a time",
                fix="Take an answer to its end, or close it, before the next message.",
            )
        if self._is_open:
            self._step()
            return True
        return False

    def _take(self) -> str:
        """Hand out the next piece."""
        piece = self._ready.pop(0)
        self._pieces.append(piece)
        return piece

    def _step(self) -> None:
        conversation = self._conversation
        self._begun = True
        try:
            pieces = next(self._steps, None)
        except BaseException:
            conversation._state = None  # it may have been left in the middle of a call
            self._begun = bool(self._pieces)
            self._finish()
            raise
        if pieces is None:
            self._finish()
            conversation.last_result = self._run.results()[0]
        else:
            self._ready += [text for _, text in pieces]

    def _end(self, reason: str) -> None:
        """End it on behalf of the conversation."""
        if self._is_open:
            self._ended_by = reason
            self._finish()

    def _finish(self) -> None:
        if self._is_open:
            self._is_open = False
            self._ready.clear()
            said = self._conversation._text(self._run, self._pieces)
            self._conversation._record(self._run, said, unanswered=None if self._begun else self._message)


class AsyncAnswer:
    """The pieces of one answer of a conversation, for ``async for``, as `Answer` has them.

    Steps are computed in the engine's own thread, so that the loop is free meanwhile. Leaving it early, by a break or a
    cancelled task, needs no care: the next message, a reset or `aclose` end it, and it stays in the history as far as
    it was taken. A wait that was given up (`asyncio.wait_for`) loses no piece.
    """

    def __init__(self, steps: StepThread, begin: Callable[[], Answer]) -> None:
        self._steps, self._begin = steps, begin
        self._answer: Answer | None = None
        self._closed = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> str:
        while not self._closed and await self._steps.run(self._compute):
            pass
        if self._closed or self._answer is None or not self._answer._ready:
            raise StopAsyncIteration
        return self._answer._take()

    async def aclose(self) -> None:
        """Compute no further; what was said stays in the history. Safe to call twice, and at the end."""
        self._closed = True
        await self._steps.run(self._close)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def _compute(self) -> bool:
        """Begin, or make one step, in the thread; what it said is kept in the answer, whoever waited for it."""
        if self._closed:
            return False
        if self._answer is None:
            self._answer = self._begin()
        return self._answer._compute()

    def _close(self) -> None:
        if self._answer is not None:
            self._answer.close()


def _keep(state: State, length: int) -> int:
    """Rewind to ``length`` tokens, or to none where the state cannot go back to the middle; returns what is left."""
    try:
        state.rewind(np.array([length], np.int64))
    except InputError:  # a recurrent state knows only its beginning
        state.rewind(np.zeros(1, np.int64))
        return 0
    return length


def _common(held: Sequence[int], prompt: Sequence[int]) -> int:
    """How many first tokens are the same."""
    count = 0
    for old, new in zip(held, prompt, strict=False):
        if old != new:
            break
        count += 1
    return count


def _bounded(capacity: int, backend: Backend) -> int:
    return capacity if backend.max_positions is None else min(capacity, backend.max_positions)
