from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from jisu.exporter.precision.precision import WeightFormat, precision_named
from jisu.exporter.quantization import expected_costs
from jisu.exporter.quantization import spread_bits as module
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.expected_costs import Unit
from jisu.exporter.quantization.matrices import Matrix, matrices_of
from jisu.exporter.quantization.quantize_source import quantize_source
from jisu.exporter.quantization.rounding_tasks import round_weight
from jisu.exporter.quantization.spread_bits import all_few, between, measure_units, respread, spread_bits
from jisu.exporter.quantization.weight_formats import FormatChoice, choose_formats
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_llama

BETWEEN = WeightFormat(bits=6, block_size=32, symmetric=True)
FEW = WeightFormat(bits=4, block_size=32, symmetric=False)
MANY = WeightFormat(bits=8, block_size=32, symmetric=True)
MATRICES = {
    name: Matrix(name=name, rows=64, features=64, embedding=False, storage=number)
    for number, name in enumerate(("q", "gate", "up", "down"))
}


def choice(*many):
    formats = {name: MANY if name in many else FEW for name in MATRICES}
    return FormatChoice(formats=formats, algorithm="gptq", spread=(FEW, MANY))


def units(q, gate_and_up, down):
    costs = {("q",): q, ("gate", "up"): gate_and_up, ("down",): down}
    return [Unit(names=names, costs=(cost, cost / 256)) for names, cost in costs.items()]


def eight(actual):
    return {name for name, form in actual.formats.items() if form == MANY}


def size(actual):
    return sum(module._bytes(MATRICES[name], form) for name, form in actual.formats.items())


def test_the_bytes_of_a_cheap_layer_go_to_the_one_that_costs_most():
    actual, record = respread(choice("down"), units(0.3, 0.1, 0.02), MATRICES)
    assert eight(actual) == {"q"}
    assert size(actual) <= size(choice("down"))
    assert record["expected_kl_by_shape"] == pytest.approx(0.4 + 0.02 / 256)
    assert record["expected_kl"] == pytest.approx(0.3 / 256 + 0.12)


def test_layers_of_one_input_get_many_bits_together_or_not_at_all():
    assert eight(respread(choice("down"), units(0.1, 0.9, 0.2), MATRICES)[0]) == {"down"}
    assert eight(respread(choice("down", "q"), units(0.1, 0.9, 0.2), MATRICES)[0]) == {"gate", "up"}


def test_what_is_as_good_by_shape_stays():
    before = choice("down")
    assert respread(before, units(0.1, 0.1, 0.9), MATRICES) == (before, {})


def three(*many):
    return replace(choice(*many), spread=(FEW, BETWEEN, MANY), narrow_embedding=BETWEEN)


def units_of_three(q, gate_and_up, down):
    return [
        replace(unit, costs=(unit.costs[0], unit.costs[0] / 9, unit.costs[1])) for unit in units(q, gate_and_up, down)
    ]


def test_the_bytes_of_one_layer_of_many_bits_give_two_a_little_more():
    actual, record = respread(three("down"), units_of_three(0.3, 0.001, 0.2), MATRICES)
    assert {name for name, form in actual.formats.items() if form == BETWEEN} == {"q", "down"}
    assert size(actual) <= size(three("down"))
    assert record["expected_kl"] == pytest.approx(0.5 / 9 + 0.001)


def test_an_embedding_gets_its_narrow_format_and_what_it_leaves_goes_to_layers():
    tables = [
        Matrix(name=name, rows=128, features=64, embedding=True, storage=9) for name in ("embed_tokens", "lm_head")
    ]
    own = {**three("down").formats, "embed_tokens": MANY, "lm_head": MANY}
    before, costs = replace(three("down"), formats=own), units_of_three(0.3, 0.1, 0.2)
    actual, record = respread(before, costs, MATRICES, tables, table_cost=0.01)
    assert (actual.formats["embed_tokens"], actual.formats["lm_head"]) == (BETWEEN, BETWEEN)
    # 128 rows of 64 codes with two bits less each are 2 kB, counted once: two bits more for all four layers.
    assert {actual.formats[name] for name in MATRICES} == {BETWEEN}
    assert record["expected_kl"] == pytest.approx(0.6 / 9 + 0.01)
    kept = replace(three("down"), formats={**own, "embed_tokens": None, "lm_head": None})
    assert respread(kept, costs, MATRICES, tables, table_cost=0.0)[0].formats["lm_head"] is None
    for cost in (0.2, None):  # more than the layers win by it, or nobody knows
        assert respread(before, costs, MATRICES, tables, table_cost=cost)[0].formats["lm_head"] == MANY


def test_what_fewer_bits_cost_an_output_projection_is_what_the_logits_diverge_by(source):
    weight = source.module.lm_head.weight.detach().numpy()
    entering = np.random.default_rng(0).normal(size=(64, weight.shape[1])).astype(np.float32)
    form = WeightFormat(bits=6, block_size=64, symmetric=True)
    rounded = round_weight(source.module, "lm_head", form).dequantize()

    def log_softmax(matrix):
        logits = (entering @ matrix.T).astype(np.float64)
        return (
            logits
            - np.log(np.exp(logits - logits.max(1, keepdims=True)).sum(1, keepdims=True))
            - logits.max(1, keepdims=True)
        )

    own, other = log_softmax(weight), log_softmax(rounded)
    divergence = (np.exp(own) * (own - other)).sum(1).mean()
    assert module._table_cost(source, "lm_head", form, entering) == pytest.approx(divergence / 3, rel=1e-3)


@pytest.fixture(scope="module")
def source(tmp_path_factory):
    return load_source(write_tiny_llama(tmp_path_factory.mktemp("spread") / "source", layers=2))


@pytest.fixture(scope="module")
def data(source, tmp_path_factory):
    text = tmp_path_factory.mktemp("text") / "text.txt"
    text.write_text(" ".join(f"Line {number} says {number * 7}." for number in range(400)))
    return read_calibration_data(source, text, windows=2, window_tokens=32)


@pytest.fixture(scope="module")
def by_shape(source):
    return choose_formats(matrices_of(source.module), precision_named("int4"))


@pytest.fixture(scope="module")
def rounded(source, by_shape):
    """Codes of all layers in few bits, instead of those of the walk that an export makes."""
    few = all_few(source, by_shape)
    return {f"{name}.weight": round_weight(source.module, name, form) for name, form in few.formats.items()}


def test_layers_are_measured_and_more_bits_cost_less(source, data, by_shape, rounded):
    layers = {matrix.name: matrix for matrix in matrices_of(source.module) if not matrix.embedding}
    measured, _ = measure_units(source, by_shape, layers, data, [rounded])
    assert sorted(name for unit in measured for name in unit.names) == sorted(layers)
    assert all(many < few / 20 for few, many in (unit.costs for unit in measured))


def test_an_export_spends_no_more_and_says_what_it_expects(source, data, by_shape):
    actual = quantize_source(source, by_shape, data=data)
    spread = actual.record["spread"]
    assert 0 < spread["expected_kl"] < spread["expected_kl_by_shape"]
    stored = [
        (entry["format"]["bits"], name)
        for entry in actual.record["formats"]
        for name in entry["names"]
        if entry["format"]
    ]
    bits = {name: bits for bits, name in stored}
    matrices = {matrix.name: matrix for matrix in matrices_of(source.module) if not matrix.embedding}
    weights = sum(matrices[name].elements * bits[name] for name in matrices)
    assert weights <= 1.02 * sum(matrices[name].elements * by_shape.formats[name].bits for name in matrices)
    assert {name: actual.by_name[f"{name}.weight"].format.bits for name in matrices} == {
        name: bits[name] for name in matrices
    }
    assert {bits[name] for name in matrices} == {4, 8}


def test_what_a_file_can_hold_between_is_rounded_with_the_same_statistics(source, data):
    by_shape = choose_formats(matrices_of(source.module), precision_named("int4"), stored_bits=True)
    layers = {matrix.name: matrix for matrix in matrices_of(source.module) if not matrix.embedding}
    assert {tuple(form.bits for form in forms) for forms in between(source, by_shape).values()} == {(5, 6)}
    assert set(between(source, by_shape)) == set(layers)
    assert between(source, replace(by_shape, algorithm="rtn")) == {}, "without text nothing is chosen between"
    actual = quantize_source(source, by_shape, data=data)
    bits = {name: part.format.bits for name, part in actual.by_name.items()}
    assert bits["lm_head.weight"] == 6
    finer = [name for name in layers if bits[f"{name}.weight"] == 6]
    assert finer
    assert all(part.finer == () for part in actual.by_name.values())
    for name in finer[:2]:
        own = source.module.get_parameter(f"{name}.weight").detach().numpy()
        part = actual.by_name[f"{name}.weight"]
        nearest = round_weight(source.module, name, WeightFormat(bits=6, block_size=64, symmetric=True))
        assert not np.array_equal(part.codes, nearest.codes), "rounded on text"
        assert np.abs(part.dequantize() - own).max() < 0.2 * np.abs(own).max()


def test_all_layers_are_walked_in_few_bits_first(source, by_shape):
    few = all_few(source, by_shape)
    layers = {matrix.name for matrix in matrices_of(source.module) if not matrix.embedding}
    assert {few.formats[name].bits for name in layers} == {4}
    assert {name: form for name, form in few.formats.items() if name not in layers} == {
        name: form for name, form in by_shape.formats.items() if name not in layers
    }


def test_a_choice_of_one_format_is_not_spread(source, by_shape):
    plain = FormatChoice(formats=dict.fromkeys(by_shape.formats, FEW), algorithm="gptq", spread=by_shape.spread)
    assert all_few(source, plain) is None
    assert all_few(source, FormatChoice(formats=by_shape.formats, algorithm="gptq")) is None


def test_the_weights_of_the_source_stay(source, data, by_shape, rounded):
    before = {name: value.detach().numpy().copy() for name, value in source.module.named_parameters()}
    spread_bits(source, by_shape, data, [rounded])
    assert all(np.array_equal(value.detach().numpy(), before[name]) for name, value in source.module.named_parameters())


def test_a_model_too_large_for_a_backward_pass_keeps_what_shapes_say(source, by_shape, monkeypatch):
    monkeypatch.setattr(expected_costs, "LARGEST", source.model.parameters - 1)
    assert all_few(source, by_shape) is None


def test_a_forward_without_gradients_keeps_what_shapes_say_and_says_so(source, data, by_shape, rounded):
    def changes(module, inputs, output):
        inputs[0].mul_(1)  # what the activation needs for its gradient

    handle = source.module.model.layers[1].mlp.act_fn.register_forward_hook(changes)
    try:
        choice, record = spread_bits(source, by_shape, data, [rounded])
    finally:
        handle.remove()
    assert (choice.formats, record) == (by_shape.formats, {})
    assert "no gradients can be calculated" in choice.notes[-1]
