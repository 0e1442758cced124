"""The table of model types: what is measured for one, and how the document shows it."""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import pytest

from jisu.benchmarks.studies.tiny_configurations import LAYERS, tiny_configuration
from jisu.benchmarks.studies.trace_families import examine, render
from jisu.exporter.reports.families import Families, Family
from jisu.exporter.reports.heads import Head, Heads


def test_a_type_that_passes_is_measured(tmp_path: Path) -> None:
    family = examine("gpt2", tmp_path)
    assert family.passes
    assert family.reason is None
    assert (family.attention, family.state, family.one_token, family.layers) == ("fused", ("kv",), False, LAYERS)
    assert family.operators is not None and family.operators > 20
    assert family.worst is not None and 0 < family.worst < 1e-3


def test_a_type_that_does_not_pass_has_its_reason_without_a_path(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    encoder = partial(tiny_configuration, is_decoder=False)
    monkeypatch.setattr("jisu.benchmarks.studies.trace_families.tiny_configuration", encoder)
    family = examine("bert", tmp_path)
    assert not family.passes
    assert family.reason is not None
    assert family.reason.startswith("The model is not a language model that can be exported.")
    assert str(tmp_path) not in family.reason


@pytest.mark.parametrize(
    ("model_type", "expected"),
    [
        ("llama", {"hidden_size": 64, "num_hidden_layers": 2, "num_attention_heads": 4, "vocab_size": 384}),
        ("gpt2", {"n_embd": 64, "n_layer": 2, "n_head": 4, "n_positions": 512}),
        ("mamba2", {"num_heads": 8, "head_dim": 16, "hidden_size": 64}),  # heads times size is twice the width
        ("gemma3_text", {"num_hidden_layers": 6, "sliding_window": 8}),  # the sixth layer is the first of its kind
    ],
)
def test_sizes_are_small_and_fit_each_other(model_type: str, expected: dict[str, int]) -> None:
    from transformers import CONFIG_MAPPING

    config = tiny_configuration(CONFIG_MAPPING[model_type])
    assert {name: getattr(config, name) for name in expected} == expected


@pytest.mark.parametrize(
    "model_type",
    [
        "gemma3",  # parts with configurations of their own
        "zamba2",  # a list with an entry per layer that the class does not make again
        "bamba",  # no layer with attention unless they are named
        "nemotron",  # key heads that are left open
        "cohere_compass_text",  # rotations that are left open
        "dbrx",  # a part whose class lacks what its model reads
    ],
)
def test_a_small_model_of_every_kind_of_configuration_runs(model_type: str) -> None:
    import torch
    from transformers import CONFIG_MAPPING, AutoModelForCausalLM

    config = tiny_configuration(CONFIG_MAPPING[model_type])
    model = AutoModelForCausalLM.from_config(config)
    assert sum(parameter.numel() for parameter in model.parameters()) < 2e6
    logits = model(input_ids=torch.tensor([[5, 6, 7]])).logits
    assert logits.shape[:2] == (1, 3)
    assert logits.isfinite().all()
    if getattr(config, "layers_block_type", None):
        assert len(set(config.layers_block_type)) == 2


def test_the_document_has_a_line_for_each_type_and_no_broken_cell() -> None:
    passing = Family(
        model_type="alpha",
        passes=True,
        attention="fused",
        state=("kv", "recurrent"),
        one_token=True,
        layers=2,
        operators=40,
        worst=2e-6,
        seconds=5.2,
    )
    failing = Family(model_type="omega", passes=False, reason="It wants a | and a <b>.")
    heads = Heads(
        transformers="5.0",
        heads=(
            Head(model_type="alpha", head="MaskedLM", passes=True, worst=3e-6, seconds=2.0),
            Head(model_type="omega", head="MaskedLM", passes=False, reason="It has a |."),
        ),
    )
    text = render(Families(transformers="5.0", families=(passing, failing)), heads)
    assert re.search(r"\| MaskedLM \| words for masks \| \d\d \| 2 \| 1 \| 3.0e-06 \|", text)
    assert "| omega | MaskedLM | It has a \\|. |" in text
    assert "| alpha | fused | kv, recurrent | yes | 2 | 40 | 2.0e-06 | 5 |" in text
    assert "| omega | It wants a \\| and a &lt;b>. |" in text
    assert "1 of 2 do" in text.replace("\n", " ")
