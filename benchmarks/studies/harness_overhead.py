"""What every layer above the bare session call costs: binding, the generate loop, and being measured by `jisu compare`.

    python -m benchmarks.studies.harness_overhead build/smollm2

``session`` times the calls of ONNX Runtime alone, ``bare`` calls the backend and takes the most likely token,
``harness`` is what a worker of a comparison does when it is asked: the generate loop with sampling and stopping. They
take turns in this process, on the same session and prompt. ``worker`` is the same request to a process of its own,
which is stopped while it is not timed; two processes differ by more than the harness does, by where their memory
happens to lie.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path
from types import SimpleNamespace

import numpy as np

from jisu.benchmarks.compare.contestants import artifact_contestants
from jisu.benchmarks.compare.timed_process import TimedProcess
from jisu.benchmarks.compare.trials import Numbers, interleave, report
from jisu.benchmarks.peers.run_jisu import generator
from jisu.benchmarks.peers.worker import Generate
from jisu.exporter.contract.backend import Backend
from jisu.runtimes import load

PROMPT = list(range(100, 132))
LIMIT_SECONDS = 120.0
_SPEED = "tokens per second"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--new-tokens", type=int, default=96)
    parser.add_argument("--trials", type=int, default=11)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    tokens = arguments.new_tokens
    engine = load(arguments.artifact, threads=arguments.threads)
    generate: Generate = generator(engine)["generate"]
    (contestant,) = artifact_contestants([arguments.artifact], ["ort-cpu"], threads=arguments.threads, source=None)
    with TimedProcess(contestant.command, time_limit=LIMIT_SECONDS) as process:
        results = interleave(
            {
                "session": lambda: run_session(engine.backend, tokens),
                "bare": lambda: run_bare(engine.backend, tokens),
                "harness": lambda: _speed(generate([PROMPT], tokens).step_seconds),
                "worker": lambda: _speed(process.generate([PROMPT], tokens)["step_seconds"]),
            },
            trials=arguments.trials,
        )
    report("harness_overhead", results, out=arguments.out)
    session, bare, harness = (results[name][_SPEED].median for name in ("session", "bare", "harness"))
    print(f"the loop costs {1e3 * (1 / harness - 1 / session):.3f} ms per token on top of the session")
    print(f"the harness decodes at {harness / bare:.3f} of the bare loop's speed")


def run_bare(backend: Backend, new_tokens: int) -> Numbers:
    state = backend.new_state(1, len(PROMPT) + new_tokens)
    token_ids, steps = np.array([PROMPT]), []
    for _ in range(new_tokens):
        start = time.perf_counter()
        logits = backend.forward(token_ids, state)
        token_ids = logits[:, -1].argmax(-1, keepdims=True)
        steps.append(time.perf_counter() - start)
    return _speed(steps)


def run_session(backend: Backend, new_tokens: int) -> Numbers:
    """The session call of each step of `run_bare`, timed inside the backend's own binding."""
    opened = backend._opened  # type: ignore[attr-defined]
    timed = _TimedSession(opened.get())
    backend._opened = SimpleNamespace(get=lambda: timed)  # type: ignore[attr-defined]
    try:
        run_bare(backend, new_tokens)
    finally:
        backend._opened = opened  # type: ignore[attr-defined]
    return _speed(timed.seconds)


class _TimedSession:
    """Passes calls on to a session and notes how long each run took."""

    def __init__(self, session: object) -> None:
        self._session = session
        self.seconds: list[float] = []

    def run_with_iobinding(self, binding: object) -> None:
        started = time.perf_counter()
        self._session.run_with_iobinding(binding)  # type: ignore[attr-defined]
        self.seconds.append(time.perf_counter() - started)

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)


def _speed(step_seconds: list[float]) -> Numbers:
    """Of all steps but the first, which reads the prompt."""
    return {_SPEED: 1 / statistics.mean(step_seconds[1:])}


if __name__ == "__main__":
    main()
