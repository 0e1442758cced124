"""Embedding models with states of several layers, and with prompts that are not pooled, from folder to vector."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.pipeline import export
from jisu.exporter.sources import load_source
from jisu.runtimes import load
from tests.support.models import write_tiny_embedder

PROMPT, TEXT, START = "find the text: ", "the cat sat, and 3 dogs.", 1
LAYERS = {"word_embedding_dimension": 64, "layer_start": START, "num_hidden_layers": 2}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_tiny_embedder(
        tmp_path_factory.mktemp("embedder") / "source",
        pooling={"pooling_mode_mean_tokens": True, "include_prompt": False},
        steps=(("WeightedLayerPooling", LAYERS), ("Normalize", {})),
        settings={"prompts": {"query": PROMPT, "document": ""}},
        num_hidden_layers=2,
    )


@pytest.fixture(scope="module")
def artifact(folder: Path) -> Any:
    return export(str(folder), out=folder.parent / "out")


def expected(folder: Path, text: str, *, left_out: int) -> np.ndarray:
    """By transformers' own encoder and the formulas of sentence-transformers: the weighted mean of the layers' states,
    and the mean of all tokens but the first."""
    import torch
    from safetensors.torch import load_file
    from transformers import AutoModel, AutoTokenizer

    ids = AutoTokenizer.from_pretrained(str(folder))(text, return_tensors="pt")["input_ids"]
    weights = load_file(str(next(folder.glob("*WeightedLayerPooling")) / "model.safetensors"))["layer_weights"]
    with torch.no_grad():
        states = AutoModel.from_pretrained(str(folder)).eval()(ids, output_hidden_states=True).hidden_states[START:]
    mean = sum(float(weight) * state for weight, state in zip(weights, states, strict=True)) / float(weights.sum())
    vector = mean[0, left_out:].mean(dim=0)
    return (vector / vector.norm()).numpy()


def test_the_tokens_of_a_prompt_are_read_and_not_pooled(folder: Path, artifact: Any) -> None:
    with load(artifact.folder) as engine:
        vectors = engine.embed([TEXT, "cats."], prompt="query")
        alone = engine.embed(TEXT, prompt="document")[0]
    assert np.abs(vectors[0] - expected(folder, PROMPT + TEXT, left_out=_count(folder))).max() < 1e-5
    assert np.abs(alone - expected(folder, TEXT, left_out=0)).max() < 1e-5
    assert np.abs(vectors[0] - expected(folder, PROMPT + TEXT, left_out=0)).max() > 1e-3


def _count(folder: Path) -> int:
    from transformers import AutoTokenizer

    tokenizer = AutoTokenizer.from_pretrained(str(folder))
    ids = tokenizer(PROMPT.strip())["input_ids"]
    return len(ids) - (ids[-1] in tokenizer.all_special_ids)


def test_the_gate_leaves_tokens_out_too_and_the_folder_says_so(artifact: Any) -> None:
    assert [spec.name for spec in artifact.manifest.signature.inputs][-1] == "token_type_ids"
    assert artifact.manifest.model.embedding.pools_prompt is False
    assert json.loads((artifact.folder / "1_Pooling" / "config.json").read_text())["include_prompt"] is False


def test_prompts_that_are_pooled_need_no_types(tmp_path: Path) -> None:
    source = load_source(write_tiny_embedder(tmp_path, pooling={"include_prompt": False}))  # without prompts
    assert not source.takes_types


def test_layers_that_the_encoder_does_not_have_are_refused(tmp_path: Path) -> None:
    from jisu.exporter.contract.errors import InputError

    steps = (("WeightedLayerPooling", {**LAYERS, "num_hidden_layers": 12}), ("Normalize", {}))
    with pytest.raises(InputError, match="layers 1 to 12 where the encoder has 2"):
        load_source(write_tiny_embedder(tmp_path, steps=steps, num_hidden_layers=2))
