"""An artifact of ours on one of its backends: the generate loop with sampling and stopping, and no tokenizer.

run_jisu FOLDER BACKEND THREADS [SOURCE]
"""

from __future__ import annotations

import sys
from importlib import metadata

from benchmarks.peers.worker import Generation, Opened, serve


def open_engine() -> Opened:
    import numpy as np

    from runtimes import load
    from runtimes.options import SamplingOptions
    from runtimes.text_run import TextRun

    folder, backend_name, threads, *source = sys.argv[1:]
    engine = load(folder, backend_name, threads=int(threads), source=source[0] if source else None)
    backend = engine.backend

    def generate(prompts: list[list[int]], new_tokens: int) -> Generation:
        # No id ends the answer, so that every trial makes as many tokens. Greedy: a NaN among the logits is an error.
        options = SamplingOptions(max_new_tokens=new_tokens, ignore_eos=True)
        run = TextRun(backend, prompts, options=options, codec=None, eos=())
        for _ in run:
            pass
        tokens = [list(run.token_ids(row)) for row in range(len(prompts))]
        return Generation(step_seconds=list(run.step_seconds), tokens=tokens)

    def write_logits(tokens: list[int], file: str) -> None:
        ids = np.array([tokens], np.int64)
        np.save(file, backend.forward(ids, backend.new_state(1, len(tokens)), logits="all")[0])

    return Opened(
        generate=generate,
        version=f"jisu {metadata.version('jisu')}",
        settings=f"{backend_name}, {threads} threads, {_library(backend_name)}",
        write_logits=write_logits,
    )


def _library(backend_name: str) -> str:
    """The version of what computes."""
    name = "torch" if backend_name == "torch" else "onnxruntime"
    return f"{name} {metadata.version(name)}"


if __name__ == "__main__":
    serve(open_engine)
