"""A table of vectors without an encoder, from its folder to vectors, and what of one is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import save_file
from tokenizers import Tokenizer, processors

from jisu.exporter.contract.errors import InputError
from jisu.exporter.pipeline import export
from jisu.exporter.sources import load_source
from jisu.runtimes import load
from tests.support.models import tiny_tokenizer

WIDTH = 16


def write_static(
    folder: Path, *, tensors: dict[str, Any] | None = None, behind: tuple[str, ...] = ("Normalize",)
) -> Path:
    folder.mkdir(parents=True)
    tokenizer = tiny_tokenizer()
    inner = Tokenizer.from_str(tokenizer.backend_tokenizer.to_str())
    # It would add a token of its own, which such a model leaves out.
    inner.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 0)])
    (folder / "tokenizer.json").write_text(inner.to_str())
    generator = torch.Generator().manual_seed(0)
    save_file(
        tensors or {"embedding.weight": torch.randn(len(tokenizer), WIDTH, generator=generator)},
        folder / "model.safetensors",
    )
    kinds = [("StaticEmbedding", ""), *((kind, f"{place}_{kind}") for place, kind in enumerate(behind, 1))]
    lines = [{"type": f"sentence_transformers.models.{kind}", "path": path} for kind, path in kinds]
    (folder / "modules.json").write_text(json.dumps(lines))
    (folder / "config_sentence_transformers.json").write_text(json.dumps({"prompts": {"query": "find: "}}))
    return folder


def test_vectors_are_means_of_the_tables_without_special_tokens(tmp_path: Path) -> None:
    folder = write_static(tmp_path / "source")
    artifact = export(str(folder), out=tmp_path / "out", precision="int8")
    exact = load_source(folder).module.embedding.weight.numpy()
    ids = tiny_tokenizer()("the cat sat.", add_special_tokens=False)["input_ids"]
    mean = exact[ids].mean(axis=0)
    with load(artifact.folder) as engine:
        vector = engine.embed("the cat sat.")[0]
        prompted = engine.embed("the cat sat.", prompt="query")[0]
    assert vector @ mean / np.linalg.norm(mean) > 0.999
    assert np.linalg.norm(vector) == pytest.approx(1, abs=1e-5)
    assert np.abs(prompted - vector).max() > 1e-2


def test_half_numbers_and_the_other_name_of_the_table_are_read(tmp_path: Path) -> None:
    table = torch.randn(len(tiny_tokenizer()), WIDTH).to(torch.float16)
    source = load_source(write_static(tmp_path / "source", tensors={"embeddings": table}, behind=()))
    assert source.model.embedding is not None and source.model.embedding.normalized is False
    assert torch.equal(source.module.embedding.weight, table.float())


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"tensors": {"embedding.weight": torch.ones(500, 4, dtype=torch.int8)}}, "torch.int8"),
        ({"tensors": {"embedding.weight": torch.ones(500, 4), "weights": torch.ones(500)}}, "is no table of vectors"),
        ({"tensors": {"embedding.weight": torch.ones(3, 4)}}, "tokens without vectors"),
        ({"behind": ("Pooling",)}, "Pooling behind StaticEmbedding"),
    ],
)
def test_what_is_no_table_is_refused(tmp_path: Path, changes: dict[str, Any], words: str) -> None:
    with pytest.raises(InputError, match=words):
        load_source(write_static(tmp_path / "source", **changes))


def test_a_broken_tokenizer_is_refused(tmp_path: Path) -> None:
    folder = write_static(tmp_path / "source")
    (folder / "tokenizer.json").write_text(json.dumps({"model": {"type": "none"}}))
    with pytest.raises(InputError, match="is no tokenizer"):
        load_source(folder)


@pytest.mark.parametrize("truncation", ["x", [1], {"max_length": "a"}, {"max_length": 0}, {"max_length": -5}])
def test_texts_are_cut_off_at_a_length(tmp_path: Path, truncation: Any) -> None:
    path = write_static(tmp_path / "source") / "tokenizer.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "truncation": truncation}))
    with pytest.raises(InputError, match="cuts texts off at no length. Received: truncation "):
        load_source(path.parent)
