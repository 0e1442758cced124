"""A process of its own for each contestant: it works when asked, and stands still otherwise.

With two engines in one process, or two that are awake, either would lose a quarter of its speed to the other's
spinning threads. Whatever ends a contestant, or keeps it from answering, is a `ContestantError` with the reason.
"""

from __future__ import annotations

import contextlib
import json
import os
import selectors
import signal
import subprocess
import tempfile
import time
from collections.abc import Sequence
from types import TracebackType
from typing import Any

_BLOCK = 1 << 16


class ContestantError(Exception):
    """A contestant failed: its message says how."""


class TimedProcess:
    """A worker program (`benchmarks.peers.worker`) that was started and has opened its engine.

    Args:
        command: of the worker.
        time_limit: most seconds until an answer, the opening included.

    Raises:
        ContestantError: it could not be started, ended, or did not answer in time.
    """

    def __init__(self, command: Sequence[str], *, time_limit: float) -> None:
        self._time_limit = time_limit
        self._rest = b""
        self._said = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the process
        try:
            # A session of its own: Ctrl-C is for us, and we end our workers.
            self._process = subprocess.Popen(
                list(command),
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=self._said,
                start_new_session=True,
            )
        except OSError as error:
            self._said.close()
            raise ContestantError(f"{command[0]} cannot be started: {error.strerror}") from error
        try:
            self.opened = self._read("loading")
        except BaseException:
            self.close()
            raise
        self._stop()

    @property
    def pid(self) -> int:
        return self._process.pid

    def __enter__(self) -> TimedProcess:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def generate(self, prompts: list[list[int]], new_tokens: int) -> dict[str, Any]:
        """One generation: ``step_seconds`` and ``tokens``, or ``unsupported``; and the process's memory."""
        return self._ask({"prompts": prompts, "new_tokens": new_tokens}, "generating")

    def read(self, rows: list[list[int]], calls: int) -> dict[str, Any]:
        """Read the same whole texts so many times: ``step_seconds``, or ``unsupported``; and the process's memory."""
        return self._ask({"rows": rows, "calls": calls}, "reading")

    def write_numbers(self, texts: list[list[int]], types: list[list[int]] | None, file: str) -> dict[str, Any]:
        """Have the numbers of whole texts, read in one call, written into a file; else ``unsupported`` says why not.

        Args:
            types: which text of a pair each token is of; None where there are no pairs.
        """
        return self._ask({"texts": texts, "types": types, "file": file}, "reading")

    def describe(self, prompt: list[int], files: list[str], new_tokens: int) -> dict[str, Any]:
        """As `generate` for one prompt with a mark for each of these images or recordings.

        Their reading is ``encode_seconds``; of recordings ``sound_seconds`` is how long each lasts.
        """
        return self._ask({"prompts": [prompt], "shown": files, "new_tokens": new_tokens}, "generating")

    def hear(self, files: list[str]) -> dict[str, Any]:
        """Write recordings down: ``step_seconds`` and ``sound_seconds`` of each, or ``unsupported``; and the memory."""
        return self._ask({"recordings": files}, "transcribing")

    def transcript(self, file: str) -> dict[str, Any]:
        """What is said in a recording: ``text``, ``tokens``, ``prompt`` and ``whole``, or ``unsupported``."""
        return self._ask({"transcript": file}, "transcribing")

    def write_logits(self, tokens: list[int], file: str, source: Any = None) -> dict[str, Any]:
        """Have the logits of a text written into a file; the answer says ``unsupported`` when the engine gives none.

        Args:
            source: what the text is said about: another text's token ids, a recording's file, or what is shown
                with the text of its marks.
        """
        more = {} if source is None else {"source": source}
        return self._ask({"logits": tokens, "file": file, **more}, "computing logits")

    def close(self) -> None:
        """End the process, whatever it does; safe to call twice."""
        with contextlib.suppress(ProcessLookupError):
            self._process.kill()
        self._process.wait()
        for stream in (self._process.stdin, self._process.stdout, self._said):
            if stream is not None:
                with contextlib.suppress(OSError):  # what a dead process did not read
                    stream.close()

    def _ask(self, request: dict[str, Any], doing: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        os.kill(self._process.pid, signal.SIGCONT)
        try:
            self._process.stdin.write(json.dumps(request).encode() + b"\n")
            self._process.stdin.flush()
        except OSError as error:
            raise ContestantError(self._ended(doing)) from error
        answer = self._read(doing)
        self._stop()
        return answer

    def _stop(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def _read(self, doing: str) -> dict[str, Any]:
        """The next answer; bytes are read as they come, since a buffered reader cannot be waited for."""
        assert self._process.stdout is not None
        until = time.monotonic() + self._time_limit
        with selectors.DefaultSelector() as selector:
            selector.register(self._process.stdout, selectors.EVENT_READ)
            while b"\n" not in self._rest:
                if not selector.select(max(0.0, until - time.monotonic())):
                    raise ContestantError(f"no answer within {self._time_limit:g} s while {doing}")
                block = os.read(self._process.stdout.fileno(), _BLOCK)
                if not block:
                    raise ContestantError(self._ended(doing))
                self._rest += block
        line, self._rest = self._rest.split(b"\n", 1)
        answer: dict[str, Any] = json.loads(line)
        if "failed" in answer:
            raise ContestantError(f"while {doing}: {answer['failed']}")
        return answer

    def _ended(self, doing: str) -> str:
        code = self._process.wait()
        how = f"was ended by signal {-code}" if code < 0 else f"ended with {code}"
        self._said.seek(0)
        lines = self._said.read().decode("utf-8", errors="replace").strip().splitlines()
        return f"the process {how} while {doing}" + (f": {lines[-1].strip()}" if lines else "")
