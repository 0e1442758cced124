"""llama.cpp through its Python package: its own decode loop and its own greedy sampler."""

from __future__ import annotations

import ctypes
import itertools
import sys
import time
from typing import Any

from jisu.benchmarks.peers.worker import Generation, Opened, only_prompt, serve

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

    def write_logits(tokens: list[int], file: str, source: list[int] | None) -> None:
        import numpy as np

        api.llama_memory_clear(api.llama_get_memory(engine.ctx), 1)
        batch = api.llama_batch_init(len(tokens), 0, 1)
        try:
            batch.n_tokens = len(tokens)
            for place, token in enumerate(tokens):
                batch.token[place], batch.pos[place] = token, place
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
                batch.logits[place] = 1  # those of every token, not of the last one only
            if api.llama_decode(engine.ctx, batch) != 0:
                raise RuntimeError("llama_decode failed")
            shape = (len(tokens), engine.n_vocab())
            np.save(file, np.ctypeslib.as_array(api.llama_get_logits(engine.ctx), shape=shape))
        finally:
            api.llama_batch_free(batch)

    return Opened(
        generate=generate,
        version=f"llama-cpp-python {api.__version__}",
        settings=f"n_threads {sys.argv[2]}, n_batch {BATCH}, n_ctx {CONTEXT}",
        write_logits=write_logits,
    )


if __name__ == "__main__":
    serve(open_engine)
