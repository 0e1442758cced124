"""What a folder's model is taken for."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.heads import choose_head, described_use
from jisu.exporter.sources.reranking.options import RerankOptions
from tests.support.models import classifier_config, llama_config, text_to_text_config, write_tiny_embedder

HERE = Path("here")


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (llama_config(), "text-generation"),
        (text_to_text_config(), "text2text-generation"),
        (classifier_config("Bert", architectures=["BertForSequenceClassification"]), "text-classification"),
    ],
)
def test_the_configuration_says_what_a_model_is_for(config, kind):
    head = choose_head(config, HERE)
    assert head.kind == kind
    assert head.generates is (kind != "text-classification")


def test_a_classifier_is_told_that_it_ranks_without_a_prompt():
    config = classifier_config("Bert", architectures=["BertForSequenceClassification"])
    with pytest.raises(InputError, match=r"no decoder, .*BertForSequenceClassification.*Leave --rerank-prompt out"):
        choose_head(config, HERE, reranking=RerankOptions(prompt="judge"))


def test_a_pooling_makes_an_embedding_model_of_an_encoder(tmp_path):
    config = classifier_config("Bert", architectures=["BertModel"])
    head = choose_head(config, HERE, pooling="cls")
    assert (head.kind, head.embedding.pooling, head.generates) == ("feature-extraction", ("cls",), False)
    with pytest.raises(InputError, match="encoder without pooling information.*--pooling cls, max"):
        choose_head(config, HERE)
    assert described_use(tmp_path) is None


def test_a_folder_that_says_how_it_pools_takes_no_other_pooling(tiny_embedder_source):
    with pytest.raises(InputError, match="says itself how it pools. Received: --pooling cls. Allowed: its own: mean"):
        load_source(tiny_embedder_source, pooling="cls")


def test_a_pooling_needs_a_folder(tmp_path):
    with pytest.raises(InputError, match="is no folder of an encoder"):
        load_source("tests.support.own_modules:build", pooling="cls")


def test_an_encoder_in_a_folder_of_its_own_is_found(tmp_path):
    write_tiny_embedder(tmp_path)
    inner = tmp_path / "0_Transformer"
    inner.mkdir()
    for path in [path for path in tmp_path.iterdir() if path.is_file()]:
        if not path.name.startswith(("modules", "config_sentence")):
            path.rename(inner / path.name)
    lines = json.loads((tmp_path / "modules.json").read_text())
    lines[0]["path"] = "0_Transformer"
    (tmp_path / "modules.json").write_text(json.dumps(lines))
    source = load_source(tmp_path)
    assert source.model_kind == "feature-extraction" and source.provenance["name"] == str(tmp_path)
