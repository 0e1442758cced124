"""What is written has the shape that was asked for, is read as a checkpoint, and is the same every time."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from jisu.benchmarks.studies.random_checkpoint import main, shapes, write_checkpoint
from jisu.exporter.sources import load_source
from tests.support.models import llama_config


def mixture_of_experts():
    config = shapes()["qwen3-moe-4b"]
    config.update(
        {
            "vocab_size": 64,
            "hidden_size": 32,
            "intermediate_size": 48,
            "moe_intermediate_size": 16,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_key_value_heads": 2,
            "num_experts": 4,
            "num_experts_per_tok": 2,
        }
    )
    return config


@pytest.mark.parametrize("kind", ["llama", "mixture of experts"])
def test_a_checkpoint_in_shards_is_read_and_computes(tmp_path: Path, kind: str) -> None:
    config = llama_config() if kind == "llama" else mixture_of_experts()
    write_checkpoint(tmp_path / "model", config, shard_bytes=20_000)
    assert len(list((tmp_path / "model").glob("*.safetensors"))) > 1
    source = load_source(tmp_path / "model")
    with torch.inference_mode():
        logits = source.module(torch.arange(9)[None]).logits
    assert bool(torch.isfinite(logits).all())
    assert float(logits.std()) > 0.05


def test_the_same_seed_writes_the_same_weights(tmp_path: Path) -> None:
    for name in ("one", "two"):
        write_checkpoint(tmp_path / name, llama_config(), seed=3)
    files = sorted(path.name for path in (tmp_path / "one").glob("*.safetensors"))
    assert files
    for file in files:
        assert (tmp_path / "one" / file).read_bytes() == (tmp_path / "two" / file).read_bytes()


def test_an_unknown_shape_is_refused() -> None:
    with pytest.raises(SystemExit):
        main(["folder", "--shape", "llama-900b"])


def test_shapes_have_the_parameters_of_their_names() -> None:
    from transformers import AutoModelForCausalLM

    for name, expected in {"llama-8b": 8.03e9, "llama-1b": 1.24e9, "qwen3-moe-4b": 4.0e9}.items():
        with torch.device("meta"):
            model = AutoModelForCausalLM.from_config(shapes()[name])
        count = sum(parameter.numel() for parameter in model.parameters())
        assert abs(count / expected - 1) < 0.08, (name, count)
