"""transformers on PyTorch, eager or compiled: what a user has without any export.

run_transformers FOLDER THREADS eager | compile
"""

from __future__ import annotations

import sys
import time
from typing import Any

from jisu.benchmarks.peers.worker import Generation, Opened, serve


def open_engine() -> Opened:
    import numpy as np
    import torch
    import transformers

    folder, threads, mode = sys.argv[1:]
    torch.set_num_threads(int(threads))
    model: Any = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.eval()
    # Lengths that change make it compile once more for any length; the trials come after that.
    forward: Any = torch.compile(model, dynamic=True) if mode == "compile" else model

    def generate(prompts: list[list[int]], new_tokens: int) -> Generation:
        fed = torch.tensor(prompts)
        cache = transformers.DynamicCache(config=model.config)
        tokens: list[list[int]] = [[] for _ in prompts]
        seconds = []
        with torch.inference_mode():
            for _ in range(new_tokens):
                started = time.perf_counter()
                output = forward(input_ids=fed, past_key_values=cache, use_cache=True, logits_to_keep=1)
                fed = output.logits[:, -1].argmax(-1, keepdim=True)
                chosen = fed[:, 0].tolist()
                seconds.append(time.perf_counter() - started)
                if not bool(torch.isfinite(output.logits).all()):
                    raise ValueError("the logits are not all finite")
                for row, token in zip(tokens, chosen, strict=True):
                    row.append(token)
        return Generation(step_seconds=seconds, tokens=tokens)

    def write_logits(tokens: list[int], file: str, source: list[int] | None) -> None:
        # Through what is timed: a compiled model's predictions are its own.
        with torch.inference_mode():
            np.save(file, forward(input_ids=torch.tensor([tokens]), use_cache=False).logits[0].float().numpy())

    return Opened(
        generate=generate,
        version=f"transformers {transformers.__version__}, torch {torch.__version__}",
        settings=f"float32, {mode}, {threads} threads",
        write_logits=write_logits,
    )


if __name__ == "__main__":
    serve(open_engine)
