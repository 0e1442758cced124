from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu.benchmarks.studies.int4_bits import stored, ways
from jisu.exporter.quantization.matrices import Matrix

ROOT = Path(__file__).parents[3]
SHAPES = {"up": (512, 256), "k": (64, 256), "down": (256, 512)}


@pytest.fixture(scope="module")
def matrices():
    layers = [
        Matrix(name=f"layers.{i}.{name}", rows=rows, features=features, embedding=False, storage=(i, name))
        for i in range(16)
        for name, (rows, features) in SHAPES.items()
    ]
    tied = [Matrix(name=name, rows=1000, features=256, embedding=True, storage="tied") for name in ("embed", "head")]
    return [*layers, *tied]


def test_more_of_the_longest_in_8_bits_take_more_bytes_and_a_tied_weight_counts_once(matrices):
    sizes = [stored(choice, matrices) for _, choice in ways(matrices)]
    assert sizes[0] == sizes[1] == sizes[2] < sizes[3] == sizes[4] == sizes[5] < sizes[6] == sizes[7] == sizes[8]
    embedding = 1000 * 256 * (8 + 16 / 64) / 8
    # Of 16 layers all have 8 bits in blocks of 64 for down and of 32 for k, and 4 bits for up.
    layer = 512 * 256 * (8 + 16 / 64) / 8 + 64 * 256 * (8 + 16 / 32) / 8 + 512 * 256 * (4 + 20 / 32) / 8
    assert sizes[-1] == embedding + 16 * layer


def test_a_way_by_shape_is_final(matrices):
    assert [choice.spread is None for _, choice in ways(matrices)] == [True, False, False] * 3
    assert [len(choice.spread) for _, choice in ways(matrices) if choice.spread] == [2, 3] * 3


def test_the_page_shows_what_was_measured():
    report = json.loads((ROOT / "benchmarks/results/smollm2-135m/int4-bits.json").read_text(encoding="utf-8"))
    page = (ROOT / "docs/precision.md").read_text(encoding="utf-8")
    for name, row in report["rows"].items():
        assert f"| {name} | {row['bytes'] / 1e6:.1f} MB | {row['worst_kl']:.3f} | {row['mean_kl']:.3f} |" in page
    expected = report["expected_kl_of_rows"]
    ratios = [report["rows"][name]["mean_kl"] / kl for name, kl in expected.items()]
    assert all(1.65 < ratio < 1.95 for ratio in ratios)
    by_layer = report["expected_kl_of_4_bits"]["by_layer"]
    assert 0.3 < sum(by_layer[:5]) / sum(by_layer) < 0.36
    assert report["expected_kl_by_size"]["4 to 8 bits"]["103"] == pytest.approx(0.0153)
