"""onnxruntime-genai on a folder that its own builder made."""

from __future__ import annotations

import itertools
import sys
import time
from importlib import metadata
from typing import Any

from jisu.benchmarks.peers.worker import Generation, Opened, only_prompt, serve


def open_engine() -> Opened:
    import numpy as np
    import onnxruntime_genai as genai

    config = genai.Config(sys.argv[1])
    config.overlay(f'{{"model": {{"decoder": {{"session_options": {{"intra_op_num_threads": {int(sys.argv[2])}}}}}}}}}')
    model: Any = genai.Model(config)

    def generate(prompts: list[list[int]], new_tokens: int) -> Generation:
        prompt = only_prompt(prompts)
        total = len(prompt) + new_tokens
        options = genai.GeneratorParams(model)
        options.set_search_options(max_length=total, min_length=total, do_sample=False)
        generator = genai.Generator(model, options)
        moments = [time.perf_counter()]
        generator.append_tokens(np.array(prompt, dtype=np.int32))
        for _ in range(new_tokens):
            generator.generate_next_token()
            moments.append(time.perf_counter())
        tokens = [int(token) for token in generator.get_sequence(0)[len(prompt) :]]
        return Generation(
            step_seconds=[after - before for before, after in itertools.pairwise(moments)], tokens=[tokens]
        )

    def write_logits(tokens: list[int], file: str, source: list[int] | None) -> None:
        options = genai.GeneratorParams(model)
        options.set_search_options(max_length=len(tokens) + 1, do_sample=False)
        generator = genai.Generator(model, options)
        rows = []
        # One by one: after a longer call it tells the last token's logits only.
        for token in tokens:
            generator.append_tokens(np.array([token], dtype=np.int32))
            rows.append(np.array(generator.get_logits(), np.float32).reshape(-1))
        np.save(file, np.stack(rows))

    return Opened(
        generate=generate,
        version=f"onnxruntime-genai {metadata.version('onnxruntime-genai')}",
        settings=f"intra_op_num_threads {sys.argv[2]}",
        write_logits=write_logits,
    )


if __name__ == "__main__":
    serve(open_engine)
