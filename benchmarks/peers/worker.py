"""What all workers share: requests as JSON lines on standard input, answers on standard output.

Standard library only.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

# Token ids of the prompt, number of new tokens -> (seconds to the first new token, seconds of all further ones).
Generate = Callable[[list[int], int], tuple[float, float]]


def serve(open_engine: Callable[[], tuple[Generate, str]]) -> None:
    """Open an engine and answer until the input ends.

    Args:
        open_engine: returns what generates, and the engine's version.
    """
    # Engines print; the answers need a stream of their own.
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    started = time.perf_counter()
    generate, version = open_engine()
    _answer(answers, {"load_seconds": time.perf_counter() - started, "version": version, **resident()})
    for line in sys.stdin:
        request = json.loads(line)
        first, rest = generate(request["prompt"], request["new_tokens"])
        _answer(answers, {"prefill_seconds": first, "decode_seconds": rest, **resident()})


def resident() -> dict[str, int]:
    """Bytes of this process in memory, now and at most so far."""
    found = {}
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        name, _, value = line.partition(":")
        if name in ("VmRSS", "VmHWM"):
            found[{"VmRSS": "resident_bytes", "VmHWM": "peak_bytes"}[name]] = int(value.split()[0]) * 1024
    return found


def _answer(stream: Any, answer: dict[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()
