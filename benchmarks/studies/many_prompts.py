"""How fast `generate_many` is beside batches made by hand, over prompts of mixed lengths.

    python -m benchmarks.studies.many_prompts build/smollm2-int8 --prompts 200 --rounds 3

Both answer the same prompts with the same number of new tokens, interleaved. By hand means: sorted by their number of
tokens, cut into batches of each size, `Engine.generate` for each; the best size counts. One JSON line has every round.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import sys
import time
from collections.abc import Sequence

from jisu.exporter.gate.domains import built_in_domains
from jisu.runtimes.engine import Engine
from jisu.runtimes.opening import load

SIZES = (4, 8, 16)


def mixed_prompts(count: int, *, seed: int = 0) -> list[str]:
    """Pieces of 5 to 120 words of the built-in English texts."""
    words = " ".join(one.text for one in built_in_domains() if one.name.startswith("english")).split()
    draw = random.Random(seed)
    starts = [draw.randrange(len(words) - 120) for _ in range(count)]
    return [" ".join(words[start : start + draw.randint(5, 120)]) for start in starts]


def by_hand(engine: Engine, prompts: Sequence[str], *, size: int, new_tokens: int) -> float:
    """Seconds for all prompts in batches of like lengths."""
    begun = time.perf_counter()
    ordered = sorted(prompts, key=engine.count_tokens, reverse=True)
    for start in range(0, len(ordered), size):
        engine.generate(ordered[start : start + size], max_new_tokens=new_tokens, ignore_eos=True)
    return time.perf_counter() - begun


def many(engine: Engine, prompts: Sequence[str], *, size: int, new_tokens: int) -> float:
    """Seconds for all prompts with `Engine.generate_many`."""
    begun = time.perf_counter()
    answers = engine.generate_many(prompts, batch_size=size, max_new_tokens=new_tokens, ignore_eos=True)
    assert sum(1 for _ in answers) == len(prompts), "every prompt has an answer"
    return time.perf_counter() - begun


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.many_prompts")
    parser.add_argument("artifact")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args(argv)
    prompts = mixed_prompts(arguments.prompts)
    tokens = len(prompts) * arguments.new_tokens
    speeds: dict[str, list[float]] = {}
    with load(arguments.artifact, threads=arguments.threads) as engine:
        engine.generate(prompts[:2], max_new_tokens=4)  # warm
        for _ in range(arguments.rounds):
            for size in SIZES:
                for name, measure in (("by hand", by_hand), ("generate_many", many)):
                    seconds = measure(engine, prompts, size=size, new_tokens=arguments.new_tokens)
                    speeds.setdefault(f"{name}, batches of {size}", []).append(tokens / seconds)
                    sys.stderr.write(f"{name}, batches of {size}: {tokens / seconds:.1f} tokens/s\n")
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    best = {kind: max(value for name, value in medians.items() if name.startswith(kind)) for kind in ("by", "gen")}
    print(json.dumps({"tokens_per_second": speeds, "ratio": best["gen"] / best["by"]}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
