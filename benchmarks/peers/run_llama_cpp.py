"""llama.cpp through its Python package: its own decode loop and its own greedy sampler."""

from __future__ import annotations

import ctypes
import itertools
import sys
import time
from typing import Any

from benchmarks.peers.worker import Generation, Opened, only_prompt, serve

CONTEXT = 1024
BATCH = 512  # tokens of one call, so of a prompt


def open_engine() -> Opened:
    import llama_cpp  # type: ignore[import-not-found,unused-ignore]

    api: Any = llama_cpp
    engine = api.Llama(
        sys.argv[1],
        n_ctx=CONTEXT,
        n_batch=BATCH,
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

    def generate(prompts: list[list[int]], new_tokens: int) -> Generation:
        prompt = only_prompt(prompts)
        api.llama_memory_clear(api.llama_get_memory(engine.ctx), 1)
        moments = [time.perf_counter()]
        tokens = [decode(prompt)]
        moments.append(time.perf_counter())
        for _ in range(new_tokens - 1):
            tokens.append(decode(tokens[-1:]))
            moments.append(time.perf_counter())
        return Generation(
            step_seconds=[after - before for before, after in itertools.pairwise(moments)], tokens=[tokens]
        )

    return Opened(
        generate=generate,
        version=f"llama-cpp-python {api.__version__}",
        settings=f"n_threads {sys.argv[2]}, n_batch {BATCH}, n_ctx {CONTEXT}",
    )


if __name__ == "__main__":
    serve(open_engine)
