from __future__ import annotations

from dataclasses import fields, replace
from types import SimpleNamespace

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.passes import run_recipe as running
from jisu.exporter.passes.recipes import RECIPES, WHY_NOT, recipe_for
from jisu.exporter.passes.run_recipe import PassContext, PassFailedError, run_recipe
from jisu.exporter.passes.steps import Step
from tests.exporter.passes.draft import Draft, noise

CONTEXT = PassContext(target="portable", max_positions=8, quantized={}, half=None, kept=frozenset(), windows=None)


def small_model():
    draft = Draft()
    x = draft.input("x", "B", "T", 4)
    plus = draft.op("Add", draft.weight(noise(4), "w"), draft.weight(np.float32(1.0)))
    return draft.model(y=draft.op("Mul", draft.op("Identity", draft.op("Neg", x)), plus))


@pytest.fixture
def pretend(monkeypatch):
    """Let the recipe find a pass of the test's own instead of a file."""

    def install(function, possible=None, note=None):
        module = SimpleNamespace(made_up=function)
        if note is not None:
            module.note = lambda graph: note
        if possible is not None:
            module.count_places = lambda graph: possible
        monkeypatch.setattr(running, "import_module", lambda name: module)

    return install


@pytest.mark.parametrize(
    ("target", "precision"),
    [("ort-cpu", "int3"), ("ort-npu", "fp32"), ("tensorrt", "w8a8-dynamic"), ("portable", "fp8")],
)
def test_an_unknown_recipe_names_the_known_ones(target, precision):
    with pytest.raises(
        InputError, match="fp32, fp16, bf16, int8, int4|portable, ort-cpu, ort-cuda, tensorrt"
    ) as caught:
        recipe_for(target, precision)
    assert f"--target {target} --precision {precision}" in str(caught.value)
    assert caught.value.exit_code == 2


def test_a_known_recipe_is_given():
    assert recipe_for("ort-cpu", "fp32") is RECIPES["ort-cpu", "fp32"]


def test_each_step_has_a_file_with_a_function_of_its_name():
    from importlib import import_module

    for step in {step for steps in RECIPES.values() for step in steps}:
        module = import_module(f"jisu.exporter.passes.{step.name}")
        assert callable(getattr(module, step.name))
        assert step.expect not in ("all", "reported") or callable(module.count_places)


def test_every_step_names_all_that_its_pass_takes_of_the_context():
    from importlib import import_module
    from inspect import signature

    attributes = {field.name for field in fields(PassContext)}
    for step in {step for steps in RECIPES.values() for step in steps}:
        module = import_module(f"jisu.exporter.passes.{step.name}")
        named = {step.name: step.reads, "count_places": step.counting_reads, "note": step.counting_reads}
        for name, reads in named.items():
            parameters = list(signature(getattr(module, name)).parameters.values()) if hasattr(module, name) else []
            assert [item.name for item in parameters if item.default is not item.empty] == [], f"{step.name}.{name}"
            assert not parameters or {item.name for item in parameters[1:]} == set(reads), f"{step.name}.{name}"
            assert set(reads) <= attributes, f"{step.name}.{name}"


def test_counts_are_recorded_in_order_without_times():
    steps = (Step(name="fold_constants"), Step(name="fuse_rms_norm", expect="all"), Step(name="remove_noops"))
    records = run_recipe(small_model(), steps, CONTEXT)
    assert [record.to_dict() for record in records] == [
        {"pass": "fold_constants", "count": 2},
        {"pass": "fuse_rms_norm", "count": 0, "candidates": 0},
        {"pass": "remove_noops", "count": 0},
    ]
    assert all(record.seconds >= 0 for record in records)


def test_places_that_a_fusion_leaves_are_told(pretend):
    pretend(lambda graph: 2, possible=3)
    (record,) = run_recipe(small_model(), (Step(name="made_up", expect="reported"),), CONTEXT)
    assert record.missed == 1
    assert record.to_dict()["note"].startswith("1 of 3 places have a form that the pass does not know")
    pretend(lambda graph: 3, possible=3)
    (record,) = run_recipe(small_model(), (Step(name="made_up", expect="reported"),), CONTEXT)
    assert record.note is None


@pytest.mark.parametrize(("expect", "count", "possible"), [("all", 2, 3), ("all", 0, 1), ("once", 0, None)])
def test_a_pass_that_fires_too_seldom_is_an_error(pretend, expect, count, possible):
    pretend(lambda graph: count, possible)
    with pytest.raises(PassFailedError, match="made_up was applied too few times") as caught:
        run_recipe(small_model(), (Step(name="made_up", expect=expect),), CONTEXT)
    assert f"Received: {count} places changed" in str(caught.value)
    assert f"at least {possible or 1}" in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("expect", "count", "possible"), [("all", 3, 3), ("all", 0, 0), ("once", 1, None), ("any", 0, 7)]
)
def test_a_pass_that_fires_often_enough_is_none(pretend, expect, count, possible):
    pretend(lambda graph: count, possible)
    (record,) = run_recipe(small_model(), (Step(name="made_up", expect=expect),), CONTEXT)
    assert (record.count, record.possible) == (count, possible)


def test_the_real_norm_pass_fails_on_a_norm_it_does_not_know():
    draft = Draft()
    x = draft.input("x", "B", "T", 4)
    mean = draft.op("ReduceMean", draft.op("Mul", x, x), draft.weight([-1]), dims=["B", "T", 1])
    model = draft.model(y=draft.op("Div", x, draft.op("Exp", mean)))
    with pytest.raises(PassFailedError, match="fuse_rms_norm"):
        run_recipe(model, (Step(name="fuse_rms_norm", expect="all"),), CONTEXT)


def test_what_a_pass_left_as_it_was_is_recorded(pretend):
    pretend(lambda graph: 1, 1, "2 attentions kept: mask is not causal")
    (record,) = run_recipe(small_model(), (Step(name="made_up", expect="all"),), CONTEXT)
    assert record.to_dict()["note"] == "2 attentions kept: mask is not causal"


def renames_an_input(graph):
    graph.inputs[0].name = "renamed"
    return 1


def drops_an_output(graph):
    graph.outputs.pop()
    return 1


@pytest.mark.parametrize("function", [renames_an_input, drops_an_output])
def test_only_a_lowering_may_change_the_signature(pretend, function):
    pretend(function)
    with pytest.raises(PassFailedError, match="changed the inputs or outputs"):
        run_recipe(small_model(), (Step(name="made_up"),), CONTEXT)
    run_recipe(small_model(), (Step(name="made_up", changes_signature=True),), CONTEXT)


def widens_an_output(graph):
    import onnx_ir as ir

    graph.outputs[0].shape = ir.Shape(["B", "T", 5])
    return 1


def test_other_dims_are_another_signature(pretend):
    pretend(widens_an_output)
    with pytest.raises(PassFailedError, match="changed the inputs or outputs"):
        run_recipe(small_model(), (Step(name="made_up"),), CONTEXT)


def test_a_pass_gets_what_its_step_names(pretend):
    seen = []
    pretend(lambda graph, *, max_positions: seen.append(max_positions) or 0)
    run_recipe(small_model(), (Step(name="made_up", reads=("max_positions",)),), replace(CONTEXT, max_positions=77))
    assert seen == [77]


@pytest.mark.parametrize(
    ("reads", "error"), [((), TypeError), (("target",), TypeError), (("longest",), AttributeError)]
)
def test_nothing_that_a_pass_takes_is_left_out_or_made_up(pretend, reads, error):
    pretend(lambda graph, *, max_positions: 0)
    with pytest.raises(error, match="max_positions|target|longest"):
        run_recipe(small_model(), (Step(name="made_up", reads=reads),), CONTEXT)


@pytest.mark.parametrize(("target", "precision"), WHY_NOT)
def test_what_is_not_for_gpus_says_why_what_is_and_who_takes_it(target, precision):
    why, instead = WHY_NOT[target, precision]
    with pytest.raises(InputError, match=f"in precision {precision}: {why}") as caught:
        recipe_for(target, precision)
    said = str(caught.value)
    assert f"Allowed: --target {target} with --precision fp32, fp16, bf16, int8, int4" in said
    assert f"Choose {instead}, or --target portable or ort-cpu" in said
    assert all((target, name) in RECIPES for name in instead.split(" or "))
