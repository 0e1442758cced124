from __future__ import annotations

import numpy as np

from jisu.exporter.graph.recurrent_weights import directions_of, in_onnx_form, is_recurrent


def test_gates_take_the_operators_order_and_directions_are_stacked():
    """Two rows a gate: i, f, g, o -> i, o, f, g."""
    forward = np.repeat(np.array([0, 1, 2, 3]), 2)[:, None]
    actual = in_onnx_form("LSTM", [forward, forward + 10])
    assert actual[..., 0].tolist() == [[0, 0, 3, 3, 1, 1, 2, 2], [10, 10, 13, 13, 11, 11, 12, 12]]
    assert in_onnx_form("GRU", [np.array([0, 1, 2])]).tolist() == [[1, 0, 2]]
    assert in_onnx_form("RNN", [np.array([4, 5])]).tolist() == [[4, 5]]


def test_matrices_of_recurrent_layers_are_known_by_torchs_names():
    names = ["weight_ih_l0", "a.weight_hh_l12_reverse", "weight_l0", "a.bias_ih_l0", "a.weight", "my_weight_ih_l0"]
    assert [is_recurrent(name) for name in names] == [True, True, False, False, False, False]
    assert directions_of("a.weight_ih_l0", 1) == ("a.weight_ih_l0",)
    assert directions_of("a.weight_ih_l0", 2) == ("a.weight_ih_l0", "a.weight_ih_l0_reverse")
