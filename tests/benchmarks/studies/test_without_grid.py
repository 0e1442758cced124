from __future__ import annotations

import json

import jisu
from jisu.benchmarks.studies.without_grid import main
from tests.support.models import write_tiny_llama


def test_layers_on_a_grid_are_rounded_anew(tmp_path):
    import torch
    from transformers import AutoModelForCausalLM

    checkpoint = write_tiny_llama(tmp_path / "source", layers=1)
    model = AutoModelForCausalLM.from_pretrained(checkpoint)
    with torch.no_grad():
        for layer in model.model.layers.modules():
            if isinstance(layer, torch.nn.Linear):
                random = torch.Generator().manual_seed(layer.out_features)
                codes = torch.randint(-8, 8, layer.weight.shape, generator=random).float()
                codes[:, ::32], codes[:, 1::32] = -8, 7  # every block uses the whole grid
                layer.weight.copy_(codes * 0.01)
    model.save_pretrained(checkpoint)
    words = [str(checkpoint), "--precision", "int4", "--calibration", "none", "--max-kl", "9", "--quiet"]
    assert jisu.main(["export", *words, "--out", str(tmp_path / "grid")]) == 0
    assert main([*words, "--out", str(tmp_path / "anew")]) == 0
    algorithms = [
        json.loads((tmp_path / name / "manifest.json").read_text())["quantization"]["algorithm"]
        for name in ("grid", "anew")
    ]
    assert algorithms == ["grid", "rtn"]
