"""OpenVINO GenAI on a folder that its own converter made."""

from __future__ import annotations

import sys
from importlib import metadata
from pathlib import Path
from typing import Any

from jisu.benchmarks.peers.worker import Generation, Opened, only_prompt, serve


def open_engine() -> Opened:
    import numpy as np
    import openvino  # type: ignore[import-not-found,unused-ignore]
    import openvino_genai  # type: ignore[import-not-found,unused-ignore]

    genai: Any = openvino_genai
    folder, threads = Path(sys.argv[1]), int(sys.argv[2])
    pipeline = genai.LLMPipeline(str(folder), "CPU", INFERENCE_NUM_THREADS=threads)
    plain: list[Any] = []

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

    def write_logits(tokens: list[int], file: str, source: list[int] | None) -> None:
        """The pipeline does not tell its logits: those of the same model on the same device without it."""
        if not plain:
            core: Any = openvino.Core()
            compiled = core.compile_model(str(folder / "openvino_model.xml"), "CPU", {"INFERENCE_NUM_THREADS": threads})
            plain.append(compiled.create_infer_request())
        request = plain[0]
        request.reset_state()
        ids = np.array([tokens], dtype=np.int64)
        fed = {"input_ids": ids, "attention_mask": np.ones_like(ids), "position_ids": np.arange(len(tokens))[None]}
        request.infer({**fed, "beam_idx": np.zeros(1, np.int32)})
        np.save(file, request.get_tensor("logits").data[0].astype(np.float32))

    return Opened(
        generate=generate,
        version=f"openvino-genai {metadata.version('openvino-genai')}",
        settings=f"CPU, INFERENCE_NUM_THREADS {threads}",
        write_logits=write_logits,
    )


if __name__ == "__main__":
    serve(open_engine)
