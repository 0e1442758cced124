from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.weight import Integers, QuantizedWeight


def integers(groups=None):
    return Integers(
        codes=np.array([[0, 1, 2, 3], [3, 2, 1, 0]], np.uint8),
        scales=np.array([[1, 10], [2, 20]], np.float32),
        zero_points=np.array([[0, 1], [2, 3]], np.uint8),
        bits=2,
        group_size=2,
        groups=groups,
    )


def test_neighbouring_columns_share_a_scale():
    assert integers().dequantize().tolist() == [[0, 1, 10, 20], [2, 0, -40, -60]]


def test_columns_have_the_scale_of_their_group():
    assert integers(np.array([1, 0, 0, 1])).dequantize().tolist() == [[-10, 1, 2, 20], [0, 0, -2, -60]]


def test_a_weight_is_read_when_it_is_indexed_and_turned_where_the_layer_wants_it():
    weight = QuantizedWeight(name="x", shape=(4, 2), form="", parts={}, bits=2, integers=integers, transposed=True)
    assert weight[...].tolist() == integers().dequantize().T.tolist()


def test_parts_that_do_not_fit_each_other_are_an_error_of_the_checkpoint():
    def broken():
        raise ValueError("operands could not be broadcast")

    for read, words in (
        (broken, "could not be broadcast"),
        (lambda: np.zeros((3, 3), np.float32), r"parts for \[3, 3\]"),
    ):
        weight = QuantizedWeight(name="x", shape=(2, 2), form="", parts={}, bits=4, read=read)
        with pytest.raises(InputError, match=words):
            weight[...]
