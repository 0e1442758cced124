"""Prefill and decode of an artifact against onnxruntime-genai, on the same tokens, interleaved in one process.

    python -m benchmarks.against_genai build/smollm2 GENAI_FOLDER

GENAI_FOLDER is what onnxruntime-genai's own builder made of the same checkpoint; the artifact itself can be given too,
since that package runs it as it lies there.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from benchmarks.trials import Numbers, interleave, report
from runtimes import Engine, load


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("genai", type=Path, nargs="+", help="folders with a genai_config.json")
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--trials", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="also write the numbers as JSON")
    arguments = parser.parse_args()

    engine = load(arguments.artifact, threads=arguments.threads)
    prompt = np.random.default_rng(0).integers(100, engine.backend.vocab_size, arguments.prompt_tokens).tolist()
    new = arguments.new_tokens
    candidates: dict[str, Callable[[], Numbers]] = {f"jisu {arguments.artifact}": lambda: run_jisu(engine, prompt, new)}
    for folder in arguments.genai:
        candidates[f"genai {folder}"] = genai_runner(folder, prompt, new)
    report("against_genai", interleave(candidates, trials=arguments.trials), out=arguments.out)


def run_jisu(engine: Engine, prompt: list[int], new_tokens: int) -> Numbers:
    """Generate through the public interface: loop, sampling and stopping included."""
    # No id ends the answer, so that every trial makes as many tokens.
    timings = engine.generate_ids([prompt], max_new_tokens=new_tokens, ignore_eos=True)[0].timings
    return {
        "prefill tok/s": len(prompt) / timings.time_to_first_token,
        "decode tok/s": timings.decode_steps / timings.decode_seconds,
    }


def genai_runner(folder: Path, prompt: list[int], new_tokens: int) -> Callable[[], Numbers]:
    import onnxruntime_genai as genai

    model = genai.Model(str(folder))
    total = len(prompt) + new_tokens

    def run() -> Numbers:
        options = genai.GeneratorParams(model)
        options.set_search_options(max_length=total, min_length=total, do_sample=False)
        generator = genai.Generator(model, options)
        started = time.perf_counter()
        generator.append_tokens(np.array(prompt, dtype=np.int32))
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(new_tokens - 1):
            generator.generate_next_token()
        ended = time.perf_counter()
        return {
            "prefill tok/s": len(prompt) / (first - started),
            "decode tok/s": (new_tokens - 1) / (ended - first),
        }

    return run


if __name__ == "__main__":
    main()
