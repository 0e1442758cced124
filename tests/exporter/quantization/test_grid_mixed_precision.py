from __future__ import annotations

import pytest

from jisu.exporter.precision.precision import GridFormat
from jisu.exporter.quantization.grid_mixed_precision import find_grid_mixed_precision, grid_choice
from jisu.exporter.quantization.mixed_precision import Goal, Measured
from jisu.exporter.quantization.quantize_source import QuantizedWeights
from jisu.exporter.quantization.sensitivity import EMBEDDING_FORMATS
from jisu.exporter.reports.describe_quantization import describe_quantization
from jisu.exporter.sources import load_source
from tests.exporter.quantization.test_grids import put_on_grid

LABELS = ("fp32", *EMBEDDING_FORMATS)
# Bytes and divergence of each format of the tables, as they might be measured.
MEASURED = {
    ("int8", 32): Measured(kl=0.004, bytes=97),
    ("int6", 64): Measured(kl=0.008, bytes=91),
    ("int5", 64): Measured(kl=0.012, bytes=88),
    ("int4", 16): Measured(kl=0.02, bytes=86),
    ("int4", 32): Measured(kl=0.06, bytes=83),
}


@pytest.fixture(scope="module")
def source(tiny_source):
    actual = load_source(tiny_source)
    put_on_grid(actual)
    return actual


def search(source, goal, labels=LABELS):
    choice, choices = grid_choice(source, keep=()), []

    def quantize(choice):
        choices.append(choice)
        return QuantizedWeights(by_name={}, record=choice.to_record())

    def measure(quantized):
        form = choices[-1].formats["lm_head"]
        return MEASURED[f"int{form.bits}", form.block_size]

    actual = find_grid_mixed_precision(
        source, choice, goal, quantize=quantize, measure=measure, embedding_labels=labels
    )
    return (
        actual,
        [(choice.formats["lm_head"].bits, choice.formats["lm_head"].block_size) for choice in choices],
        choices,
    )


@pytest.mark.parametrize(
    ("goal", "tried"),
    [
        (Goal(max_bytes=100), [(8, 32)]),
        (Goal(max_bytes=90), [(8, 32), (6, 64), (5, 64)]),
        (Goal(max_bytes=87), [(8, 32), (6, 64), (5, 64), (4, 16)]),
        (Goal(max_kl=0.01), [(4, 32), (4, 16), (5, 64), (6, 64)]),
        (Goal(max_kl=0.03), [(4, 32), (4, 16)]),
        (Goal(max_kl=0.03, max_bytes=90), [(4, 32), (4, 16)]),
    ],
)
def test_the_best_within_a_size_and_the_smallest_within_a_divergence(source, goal, tried):
    mix, seen, choices = search(source, goal)
    assert mix is not None
    assert seen == tried
    assert {form for name, form in choices[-1].formats.items() if "layers" in name} == {
        GridFormat(bits=4, block_size=32, sums=True)
    }
    assert choices[-1].calibrated == (tried[-1][0] < 8), "a table of few bits is rounded on text"
    record = {**mix.quantized.record, "mix": mix.record}
    assert "model.embed_tokens/lm_head" in "\n".join(describe_quantization(record))


def test_what_no_table_meets_and_what_has_no_grid_is_left_to_the_usual_search(source, tiny_source):
    assert search(source, Goal(max_bytes=80))[0] is None
    assert search(source, Goal(max_bytes=90), labels=("fp32", "int8"))[1] == [(8, 32)]
    assert grid_choice(load_source(tiny_source), keep=()) is None
