"""What all workers share: requests as JSON lines on standard input, answers on standard output.

A request is a generation, or whole texts to be read so many times, or, where the engine tells them, the logits of a
text or the numbers of whole texts. Standard library only.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

_PR_SET_PDEATHSIG = 1  # of Linux's prctl


class UnsupportedError(Exception):
    """The engine cannot do what was asked, and nothing is wrong with it."""


@dataclass(frozen=True)
class Generation:
    """One run: the new tokens of each row, and the seconds from each new token to the next.

    The first entry of ``step_seconds`` is the time to the first token, so there are as many as new tokens a row.
    ``encode_seconds`` is what an encoder took of it, None without one; ``sound_seconds`` how long each recording that
    was heard lasts, None without any.
    """

    step_seconds: list[float]
    tokens: list[list[int]]
    encode_seconds: float | None = None
    sound_seconds: list[float] | None = None


@dataclass(frozen=True)
class Hearing:
    """Recordings written down one after the other: the seconds that each took, and the seconds that each lasts."""

    step_seconds: list[float]
    sound_seconds: list[float]


# Token ids of a prompt with a mark for each image or recording, the files of these, and the number of new tokens.
Describe = Callable[[list[int], list[str], int], Generation]
# Files of recordings, samples as numpy's save writes them.
Hear = Callable[[list[str]], Hearing]
# The file of one; returns ``text``, ``tokens``, the ``prompt`` before these, and whether it was read as a ``whole``.
Transcribe = Callable[[str], dict[str, Any]]
# Token ids of each row's prompt, number of new tokens.
Generate = Callable[[list[list[int]], int], Generation]
# Token ids of each row, how many times; returns the seconds of each. NaN among the numbers is an error.
Read = Callable[[list[list[int]], int], list[float]]
# Token ids of texts that are read in one call, which text of a pair each token is of (None: no pairs), and the file to
# write their numbers into, as numpy's save does: float32 [B, columns], or [B, T, columns] where each token has a row.
WriteNumbers = Callable[[list[list[int]], list[list[int]] | None, str], None]
# Token ids of one text, the file to write their float32 logits [T, V] into, as numpy's save does, and what the text is
# about: the source of a model that turns one text into another, the file of a recording.
WriteLogits = Callable[[list[int], str, Any], None]


@dataclass(frozen=True)
class Opened:
    """An engine ready to be asked: its version, and the settings that matter for its speed, in words."""

    version: str
    settings: str = ""
    generate: Generate | None = None
    read: Read | None = None
    describe: Describe | None = None
    hear: Hear | None = None
    transcript: Transcribe | None = None
    write_logits: WriteLogits | None = None
    write_numbers: WriteNumbers | None = None


def serve(open_engine: Callable[[], Opened]) -> None:
    """Open an engine and answer until the input ends; an engine that fails says why, and the process ends with 1."""
    # Engines print; the answers need a stream of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    end_with_parent()
    try:
        started = time.perf_counter()
        opened = open_engine()
        seconds = time.perf_counter() - started
        facts = {"load_seconds": seconds, "version": opened.version, "settings": opened.settings}
        _answer(answers, {**facts, **resident()})
        for line in sys.stdin:
            _answer(answers, {**_reply(opened, json.loads(line)), **resident()})
    except Exception as error:  # noqa: BLE001 - whatever an engine raises is its answer
        # An error of this project is a sentence; of any other, its name is part of what is known.
        said = str(error) if hasattr(error, "exit_code") else f"{type(error).__name__}: {error}"
        _answer(answers, {"failed": said})
        sys.exit(1)


def only_prompt(prompts: list[list[int]]) -> list[int]:
    """The prompt of an engine that runs one at a time; raises UnsupportedError for several."""
    if len(prompts) != 1:
        raise UnsupportedError("this engine is asked for one prompt at a time")
    return prompts[0]


def end_with_parent() -> None:
    """Have this process killed when its parent ends, however that ends: a stopped process would stay for ever."""
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)


def resident() -> dict[str, int]:
    """Bytes of this process in memory, now and at most so far."""
    memory = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            memory[{"VmRSS": "resident_bytes", "VmHWM": "peak_bytes"}[name]] = int(value.split()[0]) * 1024
    return memory


def _reply(opened: Opened, request: dict[str, Any]) -> dict[str, Any]:
    try:
        if "logits" in request:
            if opened.write_logits is None:
                raise UnsupportedError("this engine does not tell its logits")
            opened.write_logits(request["logits"], request["file"], request.get("source"))
            return {}
        if "texts" in request:
            if opened.write_numbers is None:
                raise UnsupportedError("this engine does not tell its numbers")
            opened.write_numbers(request["texts"], request.get("types"), request["file"])
            return {}
        if "transcript" in request:
            if opened.transcript is None:
                raise UnsupportedError("this engine writes nothing down")
            return opened.transcript(request["transcript"])
        if "recordings" in request:
            if opened.hear is None:
                raise UnsupportedError("this engine does not hear")
            heard = opened.hear(request["recordings"])
            return {"step_seconds": heard.step_seconds, "sound_seconds": heard.sound_seconds}
        if "calls" in request:
            if opened.read is None:
                raise UnsupportedError("this engine reads no whole texts")
            return {"step_seconds": opened.read(request["rows"], request["calls"])}
        if opened.generate is None:
            raise UnsupportedError("this engine makes no tokens")
        if "shown" in request:
            if opened.describe is None:
                raise UnsupportedError("this engine reads no images or recordings in prompts")
            generated = opened.describe(request["prompts"][0], request["shown"], request["new_tokens"])
        else:
            generated = opened.generate(request["prompts"], request["new_tokens"])
    except UnsupportedError as reason:
        return {"unsupported": str(reason)}
    more = {"encode_seconds": generated.encode_seconds, "sound_seconds": generated.sound_seconds}
    stated = {name: value for name, value in more.items() if value is not None}
    return {"step_seconds": generated.step_seconds, "tokens": generated.tokens, **stated}


def _answer(stream: Any, answer: dict[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()
