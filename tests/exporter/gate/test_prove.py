from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.gate import FP32_BUDGET, GateResult
from jisu.exporter.gate import prove as prove_module
from jisu.exporter.gate.prove import prove
from jisu.exporter.gate.result import Check
from jisu.exporter.sources import load_source


@pytest.fixture(scope="module")
def source(tiny_source):
    return load_source(tiny_source)


@pytest.fixture
def run_says(monkeypatch):
    """Spare a test the seconds of the runs: each kind of model has its own one, which is recorded and passes."""
    requests = []

    def says(kind):
        def run(artifact, source, **options):
            requests.append((kind, options))
            passed = Check(name="run", passed=True, value=0.0, limit=1.0, unit="", detail="")
            return GateResult(checks=(passed,), reference="none", notes=("From the run.",))

        return run

    for kind in ("generator", "one_pass", "text_to_text"):
        monkeypatch.setattr(prove_module, f"_prove_{kind}", says(kind))
    return requests


def test_the_graph_that_users_run_is_compared_with_its_source(tiny_artifact, source):
    result = prove(tiny_artifact, source, budget=FP32_BUDGET)
    assert result.accepted, result.summary
    assert result.ran_on["backend"] == "ort-cpu"
    assert result.ran_on["graph"] == tiny_artifact.cpu_graph.name
    names = [check.name for check in result.checks]
    for name in ("prefill-1", "decode", "batch", "greedy", "far-positions", "tokenizer", "model-facts"):
        assert any(one.startswith(name) for one in names), name


def test_another_source_fails_in_the_run_and_names_the_layer(tiny_artifact, source, monkeypatch):
    other = load_source(source.provenance["name"])
    other.module.get_parameter("model.layers.1.mlp.down_proj.weight").data *= 3
    result = prove(tiny_artifact, other, budget=FP32_BUDGET)
    assert not result.accepted
    assert "1" in (result.where or "")


@pytest.mark.parametrize(
    ("model_kind", "run"),
    [("text-generation", "generator"), ("text-classification", "one_pass"), ("text2text-generation", "text_to_text")],
)
def test_each_kind_of_model_has_its_run(run_says, tiny_artifact, source, monkeypatch, model_kind, run):
    monkeypatch.setattr("jisu.exporter.gate.stored.check_stored", lambda *_: [])
    result = prove(tiny_artifact, replace(source, model_kind=model_kind), budget=FP32_BUDGET, evaluation="some text")
    assert [name for name, _ in run_says] == [run]
    assert run_says[0][1]["evaluation"] == "some text"
    assert result.notes == ("From the run.",)


def test_files_are_compared_besides_what_runs(run_says, tiny_artifact, source):
    facts = replace(source.model, eos=(77,))
    result = prove(tiny_artifact, replace(source, model=facts), budget=FP32_BUDGET)
    assert [check.name for check in result.checks if not check.passed] == ["model-facts"]


def test_wrong_integers_are_named_before_their_effect(run_says, tiny_artifact, source):
    from jisu.exporter.precision.precision import precision_named
    from jisu.exporter.quantization.matrices import matrices_of
    from jisu.exporter.quantization.quantize_source import quantize_source
    from jisu.exporter.quantization.weight_formats import choose_formats

    choice = choose_formats(matrices_of(source.module), precision_named("int8"), block_size=32)
    intended = quantize_source(source, choice).by_name
    result = prove(tiny_artifact, source, budget=FP32_BUDGET, intended=intended)
    assert not result.checks[0].passed
    assert result.checks[0].name == "stored-weights"
    assert result.checks[1].name == "run"


def test_what_holds_on_some_cpus_only_is_said(run_says, tiny_artifact, source):
    needy = Artifact(folder=tiny_artifact.folder, manifest=replace(tiny_artifact.manifest, kernels="vnni"))
    assert any("VNNI" in note for note in prove(needy, source, budget=FP32_BUDGET).notes)
    assert not any("VNNI" in note for note in prove(tiny_artifact, source, budget=FP32_BUDGET).notes)


def test_a_nan_in_the_candidate_is_no_match(tiny_artifact, source, monkeypatch):
    from jisu.exporter.gate import open_candidate as opening

    open_really = opening.open_candidate

    def broken(artifact, backend="ort-cpu", **options):
        opened = open_really(artifact, backend, **options)
        forward = opened.forward
        monkeypatch.setattr(opened, "forward", lambda *a, **b: forward(*a, **b) * np.float32("nan"), raising=False)
        return opened

    monkeypatch.setattr(opening, "open_candidate", broken)
    result = prove(tiny_artifact, source, budget=FP32_BUDGET)
    assert not result.accepted
    assert result.first_failure.name == "finite"
