"""An artifact of ours, through the public interface: loop, sampling and stopping included."""

from __future__ import annotations

import sys
from importlib import metadata

from benchmarks.peers.worker import Generate, serve
from runtimes import load


def open_engine() -> tuple[Generate, str]:
    engine = load(sys.argv[1], threads=int(sys.argv[2]))

    def generate(prompt: list[int], new_tokens: int) -> tuple[float, float]:
        # No id ends the answer, so that every trial makes as many tokens.
        timings = engine.generate_ids([prompt], max_new_tokens=new_tokens, ignore_eos=True)[0].timings
        return timings.time_to_first_token, timings.decode_seconds

    return generate, f"jisu {metadata.version('jisu')}"


if __name__ == "__main__":
    serve(open_engine)
