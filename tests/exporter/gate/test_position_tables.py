from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch

from jisu.exporter.gate.position_tables import check_position_tables, graph_tables, source_tables
from jisu.exporter.sources import load_source
from tests.exporter.gate.damage import change, damaged


@pytest.fixture(scope="module")
def module(tiny_source):
    return load_source(tiny_source).module


def rows(first, last, edit):
    def on(array):
        array[first : last + 1] = edit(array[first : last + 1])
        return array

    return on


def check(artifact, tmp_path, module, edit, table="rotary_table_0"):
    graph = damaged(artifact, tmp_path / "damaged", lambda model: change(model, table, edit))
    return check_position_tables(graph, module, max_positions=512)


def test_tables_as_exported_are_the_sources(tiny_artifact, module):
    actual = check_position_tables(tiny_artifact.graph, module, max_positions=512)
    assert actual.passed
    assert actual.detail == "1 pairs of tables are the source's at each of 512 positions."


@pytest.mark.parametrize(
    ("edit", "words"),
    [
        (rows(412, 511, lambda part: part[::-1]), "Row 412 "),
        (rows(311, 311, lambda part: part + np.float32(1e-3)), "Row 311 "),
        (rows(511, 511, lambda part: part * np.float32(np.nan)), "Row 511 "),
        (rows(0, 0, lambda part: part - np.float32(0.5)), "Row 0 "),
        (lambda array: array[:500], None),
    ],
    ids=["behind-412", "one-row", "last-is-nan", "first", "short"],
)
@pytest.mark.parametrize("table", ["rotary_table_0", "rotary_table_1"])
def test_a_wrong_row_is_named(edit, words, table, tiny_artifact, tmp_path, module):
    def both(model):
        change(model, table, edit)
        if words is None:
            change(model, {"rotary_table_0": "rotary_table_1", "rotary_table_1": "rotary_table_0"}[table], edit)

    graph = damaged(tiny_artifact, tmp_path / "damaged", both)
    actual = check_position_tables(graph, module, max_positions=512)
    assert not actual.passed
    assert (words or "ends at 500 of 512 positions") in actual.detail


def test_tables_that_are_computed_when_the_graph_is_opened_are_compared_too(tmp_path, tiny_artifact, module):
    from jisu.exporter.passes.compute_rope_tables import compute_rope_tables

    def compute(model):
        import jisu.exporter.passes.compute_rope_tables as pass_

        smallest, pass_._SMALLEST_BYTES = pass_._SMALLEST_BYTES, 0
        try:
            assert compute_rope_tables(model.graph) == 1
        finally:
            pass_._SMALLEST_BYTES = smallest

    graph = damaged(tiny_artifact, tmp_path / "computed", compute)
    assert check_position_tables(graph, module, max_positions=512).passed

    def slower(model):
        change(model, "rope_0.frequencies", lambda array: array * np.float32(1.0001))

    computed = replace(tiny_artifact, folder=tmp_path / "computed")
    assert not check_position_tables(damaged(computed, tmp_path / "slower", slower), module, max_positions=512).passed


def test_a_table_that_no_rotary_module_gives_is_left_to_the_runs(tiny_artifact):
    actual = check_position_tables(tiny_artifact.graph, torch.nn.Linear(2, 2), max_positions=512)
    assert actual.passed
    assert "runs judge them" in actual.detail


def test_the_sources_tables_are_read_at_every_position(module):
    (table,) = source_tables(module, 5000)  # more than one block
    assert table.rows.shape == (5000, 2, 8)
    frequencies = 10000.0 ** (-np.arange(8) / 8)
    np.testing.assert_allclose(table.rows[4999, 0], np.cos(4999 * frequencies), atol=2e-3)


def test_each_pair_is_read_once(tiny_artifact):
    (table,) = graph_tables(tiny_artifact.graph, 512)
    assert table.whole
    assert table.rows.shape == (512, 2, 8)
