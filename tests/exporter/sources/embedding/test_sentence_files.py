"""What sentence-transformers reads of an artifact says what the source's folder says."""

from __future__ import annotations

import json

import numpy as np
import torch

from jisu.exporter.sources import load_source
from jisu.exporter.sources.embedding.description import read_description
from jisu.exporter.sources.embedding.sentence_files import write_sentence_files
from jisu.runtimes import load

ROW = torch.tensor([[3, 4, 5, 6]])


def test_an_artifact_is_described_as_its_source(tiny_embedder_source, tiny_embedder):
    source, written = read_description(tiny_embedder_source), read_description(tiny_embedder.folder)
    assert (written.pooling, written.prompts, written.similarity) == (source.pooling, source.prompts, source.similarity)
    assert [step.kind for step in written.steps] == [step.kind for step in source.steps]
    assert written.longest == 128 and not written.lowers
    config = json.loads((tiny_embedder.folder / "config.json").read_text())
    assert config["architectures"] == ["BertModel"] and "_name_or_path" not in config


def test_weights_behind_the_encoder_are_written_as_they_were(tiny_embedder_source, tiny_embedder):
    """The states of the graph, pooled and multiplied by what lies beside it, are the vectors of the graph."""
    from jisu.exporter.sources.embedding.embedder import build_embedder

    class States(torch.nn.Module):
        config = load_source(tiny_embedder_source, outline=True).module.config

        def forward(self, input_ids, attention_mask):
            return (torch.from_numpy(states),)

    with load(tiny_embedder.folder) as engine:
        session = engine._opened._run.args[0].get()
        feeds = {"input_ids": ROW.numpy(), "attention_mask": np.ones((1, 4), np.int64)}
        states, vector = session.run(["last_hidden_state", "sentence_embedding"], feeds)
    again = build_embedder(States(), read_description(tiny_embedder.folder), hidden=64)
    actual = again(ROW, torch.ones_like(ROW)).sentence_embedding.numpy()
    np.testing.assert_allclose(actual, vector, atol=1e-6)


def test_the_order_of_several_poolings_is_written(tmp_path):
    from tests.support.models import write_tiny_embedder

    for number, modes in enumerate((["cls", "mean"], ["mean", "cls"], ["mean", "mean"])):
        place = write_tiny_embedder(tmp_path / str(number), pooling={"pooling_mode": modes}, num_hidden_layers=1)
        source = load_source(place)
        write_sentence_files(tmp_path / f"{number}-written", source.module, source.model)
        assert list(read_description(tmp_path / f"{number}-written").pooling) == modes
