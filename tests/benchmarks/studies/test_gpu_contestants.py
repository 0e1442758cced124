from __future__ import annotations

import numpy as np
import pytest

from jisu.benchmarks.studies.gpu_contestants import OurBackend, TorchModel
from jisu.runtimes.backends.registry import open_backend


@pytest.mark.cuda
def test_greedy_tokens_in_fp16_are_torchs_on_the_same_gpu(tiny, tmp_path):
    """A near tie may be decided either way: where they part, torch's two best logits are within rounding."""
    import torch

    from jisu.exporter import export, load_source

    loose = {"max_kl": 0.5, "min_top1": 0.3, "max_perplexity_ratio": 2.0}
    artifact = export(tiny.source, tmp_path / "a", target="ort-cuda", precision="fp16", **loose)
    device, prompt = torch.device("cuda"), np.arange(3, 40)
    ours = OurBackend(open_backend("ort-cuda", artifact), capacity=128)
    module = load_source(tiny.source).module
    theirs = TorchModel(module, capacity=128, device=device, dtype=torch.float16, compiled=False)
    tokens = [[one.prefill(prompt)] for one in (ours, theirs)]
    for _ in range(48):
        for one, said in zip((ours, theirs), tokens, strict=True):
            said.append(one.decode(said[-1]))
    diverged = next((i for i, pair in enumerate(zip(*tokens, strict=True)) if pair[0] != pair[1]), None)
    if diverged is not None:
        with torch.inference_mode():
            text = torch.tensor([[*prompt.tolist(), *tokens[1][:diverged]]])
            logits = module(text).logits[0, -1]
        best = logits.topk(2).values
        assert float((best[0] - best[1]) / logits.std()) < 0.02


def test_a_contestant_forgets_the_prompt_before(tiny):
    from jisu.exporter.contract.artifact import read_artifact

    one = OurBackend(open_backend("ort-cpu", read_artifact(tiny.fp32)), capacity=16)
    first = [one.prefill(np.arange(5)), one.decode(3)]
    one.prefill(np.arange(9, 14))
    assert [one.prefill(np.arange(5)), one.decode(3)] == first
