"""OpenVINO GenAI on a folder that its own converter made."""

from __future__ import annotations

import sys
from importlib import metadata
from typing import Any

from benchmarks.peers.worker import Generation, Opened, only_prompt, serve


def open_engine() -> Opened:
    import numpy as np
    import openvino  # type: ignore[import-not-found,unused-ignore]
    import openvino_genai  # type: ignore[import-not-found,unused-ignore]

    genai: Any = openvino_genai
    pipeline = genai.LLMPipeline(sys.argv[1], "CPU", INFERENCE_NUM_THREADS=int(sys.argv[2]))

    def generate(prompts: list[list[int]], new_tokens: int) -> Generation:
        options = genai.GenerationConfig()
        options.max_new_tokens, options.ignore_eos, options.do_sample = new_tokens, True, False
        ids = np.array([only_prompt(prompts)], dtype=np.int64)
        inputs = genai.TokenizedInputs(openvino.Tensor(ids), openvino.Tensor(np.ones_like(ids)))
        result = pipeline.generate(inputs, options)
        # In microseconds: the time to the first token, and from each new token to the next.
        raw = result.perf_metrics.raw_metrics
        steps = [*raw.m_times_to_first_token[:1], *raw.m_durations]
        return Generation(step_seconds=[step / 1e6 for step in steps], tokens=[list(map(int, result.tokens[0]))])

    return Opened(
        generate=generate,
        version=f"openvino-genai {metadata.version('openvino-genai')}",
        settings=f"CPU, INFERENCE_NUM_THREADS {sys.argv[2]}",
    )


if __name__ == "__main__":
    serve(open_engine)
