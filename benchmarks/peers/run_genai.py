"""onnxruntime-genai on a folder that its own builder made."""

from __future__ import annotations

import sys
import time
from importlib import metadata
from typing import Any

from benchmarks.peers.worker import Generate, serve


def open_engine() -> tuple[Generate, str]:
    import numpy as np
    import onnxruntime_genai as genai

    config = genai.Config(sys.argv[1])
    config.overlay(f'{{"model": {{"decoder": {{"session_options": {{"intra_op_num_threads": {int(sys.argv[2])}}}}}}}}}')
    model: Any = genai.Model(config)

    def generate(prompt: list[int], new_tokens: int) -> tuple[float, float]:
        total = len(prompt) + new_tokens
        options = genai.GeneratorParams(model)
        options.set_search_options(max_length=total, min_length=total, do_sample=False)
        generator = genai.Generator(model, options)
        started = time.perf_counter()
        generator.append_tokens(np.array(prompt, dtype=np.int32))
        generator.generate_next_token()
        first = time.perf_counter()
        for _ in range(new_tokens - 1):
            generator.generate_next_token()
        return first - started, time.perf_counter() - first

    return generate, f"onnxruntime-genai {metadata.version('onnxruntime-genai')}"


if __name__ == "__main__":
    serve(open_engine)
