"""llama.cpp through its Python package: its own decode loop and its own greedy sampler."""

from __future__ import annotations

import ctypes
import sys
import time
from typing import Any

from benchmarks.peers.worker import Generate, serve

CONTEXT = 1024


def open_engine() -> tuple[Generate, str]:
    import llama_cpp  # type: ignore[import-not-found,unused-ignore]

    api: Any = llama_cpp
    engine = api.Llama(
        sys.argv[1],
        n_ctx=CONTEXT,
        n_batch=512,
        n_threads=int(sys.argv[2]),
        n_threads_batch=int(sys.argv[2]),
        verbose=False,
    )
    sampler = api.llama_sampler_init_greedy()

    def decode(tokens: list[int]) -> int:
        array = (ctypes.c_int32 * len(tokens))(*tokens)
        if api.llama_decode(engine.ctx, api.llama_batch_get_one(array, len(tokens))) != 0:
            raise RuntimeError("llama_decode failed")
        return int(api.llama_sampler_sample(sampler, engine.ctx, -1))

    def generate(prompt: list[int], new_tokens: int) -> tuple[float, float]:
        api.llama_memory_clear(api.llama_get_memory(engine.ctx), 1)
        started = time.perf_counter()
        token = decode(prompt)
        first = time.perf_counter()
        for _ in range(new_tokens - 1):
            token = decode([token])
        return first - started, time.perf_counter() - first

    return generate, f"llama-cpp-python {api.__version__}"


if __name__ == "__main__":
    serve(open_engine)
