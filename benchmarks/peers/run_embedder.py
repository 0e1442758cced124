"""Embeds texts with one engine in a process of its own, for `benchmarks.studies.embedding_speed`.

Run by the Python that has the engine: ``python run_embedder.py ENGINE FOLDER THREADS``. Requests are JSON lines
``{"texts": [...], "calls": N}`` or ``{"texts": [...], "file": PATH}``, which writes the vectors.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

Embed = Callable[[list[str]], Any]


def main() -> None:
    """Open the engine, then answer until the input ends."""
    engine, folder, threads = sys.argv[1], sys.argv[2], int(sys.argv[3])
    answers = os.fdopen(os.dup(1), "w", encoding="utf-8")
    os.dup2(2, 1)
    embed, version = _ENGINES[engine](folder, threads)
    _answer(answers, {"version": version})
    for line in sys.stdin:
        request = json.loads(line)
        if "file" in request:
            import numpy as np

            np.save(request["file"], np.asarray(embed(request["texts"]), np.float32))
            _answer(answers, {})
            continue
        seconds = []
        for _ in range(request["calls"]):
            begun = time.perf_counter()
            embed(request["texts"])
            seconds.append(time.perf_counter() - begun)
        _answer(answers, {"seconds": seconds, "resident_bytes": _resident()})


def _jisu(folder: str, threads: int) -> tuple[Embed, str]:
    from importlib import metadata

    from jisu.runtimes import load

    engine = load(folder, threads=threads)
    return lambda texts: engine.embed(texts, truncate=True), f"jisu {metadata.version('jisu')}"


def _sentence_transformers(folder: str, threads: int) -> tuple[Embed, str]:
    import onnxruntime  # noqa: TID251 - of the peer's own environment
    import sentence_transformers
    import torch

    torch.set_num_threads(threads)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    place, _, name = folder.partition("::")
    more = {"file_name": name} if name else {}
    model = sentence_transformers.SentenceTransformer(
        place,
        backend="onnx",
        model_kwargs={**more, "provider": "CPUExecutionProvider", "session_options": options, "export": False},
    )
    return lambda texts: model.encode(texts, batch_size=32, show_progress_bar=False), (
        f"sentence-transformers {sentence_transformers.__version__}, onnxruntime {onnxruntime.__version__}"
    )


def _fastembed(folder: str, threads: int) -> tuple[Embed, str]:
    from importlib import metadata

    from fastembed import TextEmbedding
    from fastembed.common.model_description import ModelSource, PoolingType

    place, _, name = folder.partition("::")
    TextEmbedding.add_custom_model(
        model="local/model",
        pooling=PoolingType.MEAN,
        normalization=True,
        sources=ModelSource(hf="local/model"),
        dim=384,
        model_file=f"onnx/{name}",
    )
    model = TextEmbedding("local/model", specific_model_path=place, threads=threads)
    return lambda texts: list(model.embed(texts, batch_size=32)), f"fastembed {metadata.version('fastembed')}"


_ENGINES = {"jisu": _jisu, "sentence-transformers": _sentence_transformers, "fastembed": _fastembed}


def _resident() -> int:
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS"):
            return int(line.split()[1]) * 1024
    return 0


def _answer(stream: Any, answer: dict[str, Any]) -> None:
    stream.write(json.dumps(answer) + "\n")
    stream.flush()


if __name__ == "__main__":
    main()
