"""What the generate loop costs per token on top of the bare session call.

    python -m benchmarks.loop_overhead build/smollm2

Both sides run the same graph on the same bound memory; the bare side only counts up the mask. The difference of their
medians is the cost of sampling, stopping and binding.
"""

from __future__ import annotations

import argparse
import statistics
import time
from pathlib import Path

import numpy as np

from benchmarks.trials import Numbers, interleave, report
from runtimes import Engine, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--trials", type=int, default=9)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path)
    arguments = parser.parse_args()
    engine = load(arguments.artifact, threads=arguments.threads)
    prompt = list(range(100, 116))
    results = interleave(
        {
            "loop": lambda: run_loop(engine, prompt, arguments.new_tokens),
            "bare": lambda: run_bare(engine, prompt, arguments.new_tokens),
        },
        trials=arguments.trials,
    )
    report("loop_overhead", results, out=arguments.out)
    cost = results["loop"]["ms per token"].median - results["bare"]["ms per token"].median
    print(f"the loop costs {cost:.3f} ms per token")


def run_loop(engine: Engine, prompt: list[int], new_tokens: int) -> Numbers:
    timings = engine.generate_ids([prompt], max_new_tokens=new_tokens, ignore_eos=True)[0].timings
    return {"ms per token": 1e3 * timings.decode_seconds / timings.decode_steps}


def run_bare(engine: Engine, prompt: list[int], new_tokens: int) -> Numbers:
    """The session call of each step, timed inside the backend's own binding."""
    backend = engine.backend
    state = backend.new_state(1, len(prompt) + new_tokens)
    backend.forward(np.array([prompt]), state)
    token = np.array([[prompt[0]]])
    seconds: list[float] = []
    inner = backend._session  # type: ignore[attr-defined]
    timed = _TimedSession(inner, seconds)
    backend._session = timed  # type: ignore[attr-defined]
    try:
        for _ in range(new_tokens - 1):
            backend.forward(token, state)
    finally:
        backend._session = inner  # type: ignore[attr-defined]
    # The loop tells its total only, so the bare side is a mean too: a slow step weighs the same on both.
    return {"ms per token": 1e3 * statistics.fmean(seconds)}


class _TimedSession:
    """Passes calls on to a session and notes how long each run took."""

    def __init__(self, session: object, seconds: list[float]) -> None:
        self._session = session
        self._seconds = seconds

    def run_with_iobinding(self, binding: object) -> None:
        started = time.perf_counter()
        self._session.run_with_iobinding(binding)  # type: ignore[attr-defined]
        self._seconds.append(time.perf_counter() - started)

    def __getattr__(self, name: str) -> object:
        return getattr(self._session, name)


if __name__ == "__main__":
    main()
