"""A conversation of several turns that computes only what is new in each of them."""

from __future__ import annotations

from collections.abc import Generator, Sequence

import numpy as np

from exporter.contract.backend import Backend, State
from exporter.contract.errors import InputError
from runtimes.engine import Engine
from runtimes.generation.options import SamplingOptions
from runtimes.generation.result import Result
from runtimes.generation.text_run import TextRun, new_token_limit


class Conversation:
    """Keeps the messages and the model's state between turns.

    Each turn renders the whole history again; the state keeps the tokens that the new rendering has in common with the
    last one and the rest is computed. An answer that is broken off, by closing its iterator, stays in the history as
    far as it came.
    """

    def __init__(self, engine: Engine, *, system: str | None = None, options: SamplingOptions | None = None) -> None:
        self._engine = engine
        self._options = options or SamplingOptions()
        self._system = system
        self._state: State | None = None
        self._held: list[int] = []
        self.messages: list[dict[str, str]] = []
        self.reused_tokens = 0
        self.last_result: Result | None = None
        self.reset()

    def __getstate__(self) -> dict[str, object]:
        """What a pickle or a copy keeps: everything but the model's state, which is computed again."""
        return {**self.__dict__, "_state": None, "_held": []}

    def reset(self) -> None:
        """Forget every message but the system's."""
        self.messages = [] if self._system is None else [{"role": "system", "content": self._system}]
        self.last_result = None

    def ask(self, text: str) -> Generator[str, None, None]:
        """Answer a message piece by piece.

        ``last_result`` is the answer when it is finished, None when it was broken off.

        Raises:
            InputError: no chat template, or the history has become too long; it is then as it was before.
        """
        self.last_result = None
        self.messages.append({"role": "user", "content": text})
        try:
            prompt = self._engine.message_ids(self.messages)
            run = self._begin(prompt)
        except BaseException:
            self.messages.pop()
            raise
        return self._pieces(run)

    def _pieces(self, run: TextRun) -> Generator[str, None, None]:
        said: list[str] = []
        try:
            for pieces in run:
                for _, piece in pieces:
                    said.append(piece)
                    yield piece
            self.last_result = run.results()[0]
        except GeneratorExit:
            raise
        except BaseException:
            self._state = None  # it may have been left in the middle of a call
            raise
        finally:
            self._held += run.token_ids(0)
            if self._state is not None:
                del self._held[int(self._state.lengths[0]) :]
            self.messages.append({"role": "assistant", "content": "".join(said)})

    def _begin(self, prompt: Sequence[int]) -> TextRun:
        engine, options = self._engine, self._options
        needed = len(prompt) + new_token_limit(
            len(prompt), engine.backend.max_positions, options, name="The conversation"
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
        )


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
