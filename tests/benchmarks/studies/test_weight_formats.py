from __future__ import annotations

import json
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import torch
from safetensors.torch import save_file

from jisu.benchmarks.studies.weight_formats import Subject, choose_algorithms, of_genai, of_weights, table
from jisu.calibration.text.windows import Windows

ROOT = Path(__file__).parents[3]


def test_a_row_names_its_worst_domain_and_the_mean_of_all():
    figures = {"german": {"mean_kl": 0.3, "top1": 0.5}, "chat": {"mean_kl": 0.1, "top1": 0.75}}
    report = {"rows": {"int4": {"bytes": 90_000_000, "seconds": 2.0, "domains": figures}}}
    assert table(report).splitlines()[-1] == "| int4 | 90.0 | 2 | 0.3000 | german | 0.2000 | 0.500 |"


def test_genai_is_asked_token_by_token_and_every_text_anew(monkeypatch, tmp_path):
    class Generator:
        def __init__(self, model, parameters):
            self.sum = 0

        def append_tokens(self, tokens):
            self.sum += int(tokens[0])

        def get_logits(self):
            return np.full((1, 1, 3), self.sum, np.float32)

    class GeneratorParams:
        def __init__(self, model):
            pass

        def set_search_options(self, *, max_length):
            assert max_length >= 2

    stand_in = ModuleType("onnxruntime_genai")
    stand_in.Model, stand_in.Generator, stand_in.GeneratorParams = str, Generator, GeneratorParams
    monkeypatch.setitem(sys.modules, "onnxruntime_genai", stand_in)
    (tmp_path / "model.onnx").write_bytes(b"12345")
    predict, size = of_genai(tmp_path)
    assert size == 5
    for _ in range(2):
        assert predict(np.array([4, 5])).tolist() == [[4, 4, 4], [9, 9, 9]]


def test_layers_that_another_tool_rounded_are_put_into_the_model(tmp_path):
    model = torch.nn.Module()
    model.model = torch.nn.Module()
    model.model.layers = torch.nn.ModuleList([torch.nn.Linear(64, 8, bias=False)])
    model.embedding = torch.nn.Embedding(16, 64)
    model.get_input_embeddings = lambda: model.embedding
    before = model.embedding.weight.detach().clone()
    rounded = torch.full((8, 64), 0.5)
    save_file({"model.layers.0.weight": rounded}, tmp_path / "other.safetensors", metadata={"bytes": "1000"})
    _, size = of_weights(tmp_path / "other.safetensors", Subject(model, Windows(ids=np.zeros((0, 0)), seed=0)))
    assert torch.equal(model.model.layers[0].weight, rounded)
    assert 0 < float((model.embedding.weight.detach() - before).abs().max()) < 0.03, "the embedding has 8 bits"
    assert 1000 + 16 * 64 < size < 1000 + 16 * 80


def test_a_whole_name_means_that_algorithm_and_a_part_all_that_have_it():
    assert list(choose_algorithms(["awq+gptq, b32"])) == ["awq+gptq, b32"]
    assert list(choose_algorithms(["damping", "hqq"])) == ["hqq, b32", "awq+gptq, b32, damping 0.3"]
    assert choose_algorithms([]) == {}


def test_the_page_shows_what_was_measured_of_half_a_billion_parameters():
    report = json.loads(
        (ROOT / "benchmarks/results/qwen2.5-coder-0.5b/weight-formats.json").read_text(encoding="utf-8")
    )
    page = (ROOT / "docs/precision.md").read_text(encoding="utf-8")
    for name, row in report["rows"].items():
        domains = row["domains"].values()
        worst = max(domains, key=lambda domain: domain["mean_kl"])
        assert len(domains) == 23
        mean = sum(domain["mean_kl"] for domain in domains) / len(domains)
        figures = f"{row['bytes'] / 1e6:.0f} MB | {worst['mean_kl']:.4f} | {mean:.4f} | {100 * worst['top1']:.1f} %"
        assert f"| {name} | {figures} |" in page
