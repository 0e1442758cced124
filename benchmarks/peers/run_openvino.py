"""OpenVINO GenAI on a folder that its own converter made."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

from benchmarks.peers.worker import Generate, serve


def open_engine() -> tuple[Generate, str]:
    import numpy as np
    import openvino  # type: ignore[import-not-found,unused-ignore]
    import openvino_genai  # type: ignore[import-not-found,unused-ignore]

    genai: Any = openvino_genai
    pipeline = genai.LLMPipeline(sys.argv[1], "CPU", INFERENCE_NUM_THREADS=int(sys.argv[2]))

    def generate(prompt: list[int], new_tokens: int) -> tuple[float, float]:
        options = genai.GenerationConfig()
        options.max_new_tokens, options.ignore_eos, options.do_sample = new_tokens, True, False
        ids = np.array([prompt], dtype=np.int64)
        inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        metrics = pipeline.generate(inputs, options).perf_metrics
        return metrics.get_ttft().mean / 1000, metrics.get_tpot().mean / 1000 * (new_tokens - 1)

    return generate, f"openvino-genai {metadata.version('openvino-genai')}"


if __name__ == "__main__":
    serve(open_engine)
