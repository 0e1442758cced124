"""The source of an artifact as the truth that others are measured by: whole texts, no cache, its logits only.

run_source FOLDER THREADS [SOURCE]
"""

from __future__ import annotations

import sys

from benchmarks.peers.worker import Generation, Opened, UnsupportedError, serve


def open_engine() -> Opened:
    import numpy as np
    import torch

    from exporter.artifact import read_artifact
    from exporter.reference import reference_of
    from exporter.verification import load_recorded_source

    folder, threads, *source = sys.argv[1:]
    torch.set_num_threads(int(threads))
    loaded = load_recorded_source(read_artifact(folder), source[0] if source else None, same_files=True)
    reference = reference_of(loaded)

    def generate(prompts: list[list[int]], new_tokens: int) -> Generation:
        raise UnsupportedError("the reference tells logits only")

    def write_logits(tokens: list[int], file: str) -> None:
        np.save(file, reference.logits(np.array(tokens, np.int64)))

    return Opened(generate=generate, version=reference.description, write_logits=write_logits)


if __name__ == "__main__":
    serve(open_engine)
