"""How fast `generate_many` is beside batches made by hand, over prompts of mixed lengths.

    python -m benchmarks.studies.many_prompts build/smollm2-int8 --prompts 200 --rounds 3

Both answer the same prompts with the same number of new tokens, interleaved. With ``--until-end`` each answer ends
where the model ends it, and with ``--stop TEXT`` at that text, so that answers are of unequal lengths. By hand means:
sorted by their number of tokens, cut into batches of each size, `Engine.generate` for each; the best size counts. One
JSON line has every round.
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
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.opening import load

SIZES = (4, 8, 16)


def mixed_prompts(count: int, *, seed: int = 0) -> list[str]:
    """Pieces of 5 to 120 words of the built-in English texts."""
    words = " ".join(one.text for one in built_in_domains() if one.name.startswith("english")).split()
    draw = random.Random(seed)
    starts = [draw.randrange(len(words) - 120) for _ in range(count)]
    return [" ".join(words[start : start + draw.randint(5, 120)]) for start in starts]


def by_hand(engine: Engine, prompts: Sequence[str], *, size: int, options: SamplingOptions) -> list[int]:
    """New tokens of every answer, in batches of like lengths."""
    ordered = sorted(prompts, key=engine.count_tokens, reverse=True)
    batches = [ordered[start : start + size] for start in range(0, len(ordered), size)]
    return [result.new_tokens for batch in batches for result in engine.generate(batch, options=options)]


def many(engine: Engine, prompts: Sequence[str], *, size: int, options: SamplingOptions) -> list[int]:
    """New tokens of every answer with `Engine.generate_many`."""
    answers = [item.result.new_tokens for item in engine.generate_many(prompts, batch_size=size, options=options)]
    assert len(answers) == len(prompts), "every prompt has an answer"
    return answers


def main(argv: Sequence[str] | None = None) -> int:
    """Measure and print; returns 0."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.many_prompts")
    parser.add_argument("artifact")
    parser.add_argument("--prompts", type=int, default=1000)
    parser.add_argument("--new-tokens", type=int, default=32)
    parser.add_argument(
        "--until-end", action="store_true", help="end answers where the model does, at --new-tokens at most"
    )
    parser.add_argument("--stop", action="append", default=[], metavar="TEXT", help="end answers at this text, too")
    parser.add_argument("--sizes", type=int, nargs="+", default=SIZES, help="rows of a batch (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--threads", type=int)
    arguments = parser.parse_args(argv)
    prompts = mixed_prompts(arguments.prompts)
    options = SamplingOptions(
        max_new_tokens=arguments.new_tokens, ignore_eos=not arguments.until_end, stop=tuple(arguments.stop)
    )
    speeds: dict[str, list[float]] = {}
    lengths: list[int] = []
    with load(arguments.artifact, threads=arguments.threads) as engine:
        engine.generate(prompts[:2], max_new_tokens=4)  # warm
        for _ in range(arguments.rounds):
            for size in arguments.sizes:
                for name, measure in (("by hand", by_hand), ("generate_many", many)):
                    begun = time.perf_counter()
                    lengths = measure(engine, prompts, size=size, options=options)
                    speed = sum(lengths) / (time.perf_counter() - begun)
                    speeds.setdefault(f"{name}, batches of {size}", []).append(speed)
                    sys.stderr.write(f"{name}, batches of {size}: {speed:.1f} tokens/s\n")
    medians = {name: statistics.median(values) for name, values in speeds.items()}
    best = {kind: max(value for name, value in medians.items() if name.startswith(kind)) for kind in ("by", "gen")}
    quartiles = [round(value) for value in statistics.quantiles(lengths, n=4)]
    ratio = best["gen"] / best["by"]
    print(json.dumps({"answer_tokens_quartiles": quartiles, "tokens_per_second": speeds, "ratio": ratio}))
    return 0


if __name__ == "__main__":
    sys.exit(main())
