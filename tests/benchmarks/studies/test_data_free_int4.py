from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from jisu.benchmarks.studies import data_free_int4
from jisu.benchmarks.studies.data_free_int4 import RECIPES, Recipe, apply, dither, expected_inputs, round_matrix
from jisu.calibration.weights.formats import BlockFormat
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_llama

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return load_source(write_tiny_llama(tmp_path_factory.mktemp("data-free") / "source", layers=2))


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_puts_rounded_weights_into_the_model(source, name):
    own = {key: value.clone() for key, value in source.module.state_dict().items()}
    try:
        stored = apply(RECIPES[name], source.module)
        moved = [not np.array_equal(value, own[key]) for key, value in source.module.state_dict().items()]
        matrices = [value.ndim == 2 for value in own.values()]
        assert moved == matrices, "all matrices, and no norm"
    finally:
        source.module.load_state_dict(own)
    assert stored < source.weight_bytes / 3


def test_layers_of_eight_bits_are_those_that_a_recipe_names(source):
    recipe = Recipe(eight=("v_proj",), ends=("down_proj",))
    forms = {matrix.name: recipe.form(matrix, 16).bits for matrix in matrices_of(source.module)}
    layer = "model.layers.0"
    assert forms[f"{layer}.self_attn.v_proj"] == forms[f"{layer}.mlp.down_proj"] == 8
    assert forms[f"{layer}.self_attn.k_proj"] == 4


def test_weighting_by_magnitude_keeps_large_weights_closer():
    weight = np.random.default_rng(0).standard_t(3, (64, 256)).astype(np.float32)
    form = BlockFormat(bits=4, block_size=32, symmetric=False)
    large = np.abs(weight) > 2

    def error(how):
        rest = round_matrix(weight, form, how, expected=None, name="w").dequantize() - weight
        return float(np.square(rest[large]).sum())

    assert error("by square") < error("by magnitude") < error("least squares") < error("nearest") * 1.2


def test_the_expected_input_behind_a_norm_is_its_weight_squared(source):
    inputs = expected_inputs(source.module)
    norm = source.module.get_parameter("model.layers.1.input_layernorm.weight").detach().numpy()
    assert np.allclose(inputs["model.layers.1.self_attn.q_proj"], norm**2)
    down = source.module.get_submodule("model.layers.0.mlp.down_proj")
    assert inputs["model.layers.0.mlp.down_proj"].shape == (down.in_features,)
    assert (inputs["model.layers.0.mlp.down_proj"] > 0).all()


def test_only_weights_on_a_grid_are_dithered(source):
    own = {key: value.clone() for key, value in source.module.state_dict().items()}
    try:
        assert dither(source.module) == 0
        apply(Recipe(how="nearest"), source.module)
        before = source.module.get_parameter("model.layers.0.mlp.up_proj.weight").detach().clone().numpy()
        assert dither(source.module) == 14
        after = source.module.get_parameter("model.layers.0.mlp.up_proj.weight").detach().numpy()
        assert 0 < np.abs(after - before).max() < 0.1 * np.abs(before).max()
    finally:
        source.module.load_state_dict(own)


def test_recipes_are_chosen_by_their_whole_names():
    assert [name for name, _ in data_free_int4.chosen("nearest, b32; half-quadratic, b32")] == [
        "nearest, b32",
        "half-quadratic, b32",
    ]
    assert len(list(data_free_int4.chosen(""))) == len(RECIPES)


def test_the_page_shows_what_was_measured():
    report = json.loads((ROOT / "benchmarks/results/smollm2-135m/data-free-int4.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/precision.md").read_text(encoding="utf-8").splitlines()
    for name, row in report["rows"].items():
        kl = [figures["mean_kl"] for figures in row["domains"].values()]
        assert f"| {name} | {row['bytes'] / 1e6:.1f} MB | {max(kl):.3f} | {sum(kl) / len(kl):.3f} |" in page


def test_the_page_says_what_the_gate_s_domains_gave():
    results = ROOT / "benchmarks/results/smollm2-135m/data-free-int4-gate.json"
    (row,) = json.loads(results.read_text(encoding="utf-8"))["rows"].values()
    kl = {name: figures["mean_kl"] for name, figures in row["domains"].items()}
    page = " ".join((ROOT / "docs/precision.md").read_text(encoding="utf-8").split())
    assert max(kl, key=lambda name: kl[name]) == "german"
    assert (
        f"{max(kl.values()):.3f} nats in the worst, German, and by {sum(kl.values()) / len(kl):.3f} on average" in page
    )
