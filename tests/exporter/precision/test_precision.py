from __future__ import annotations

import pytest

from jisu.calibration.weights import formats
from jisu.exporter.contract.code_planes import PLANES
from jisu.exporter.contract.errors import InputError
from jisu.exporter.precision.precision import (
    PRECISIONS,
    ROW,
    STORED_BITS,
    RowFormat,
    WeightFormat,
    for_target,
    without_text,
)
from jisu.exporter.request import ExportRequest


@pytest.mark.parametrize("target", ["ort-cpu", "portable"])
def test_processors_take_every_precision_as_it_is(target):
    assert all(for_target(precision, target) is precision for precision in PRECISIONS.values())


def test_tensorrt_gets_no_zero_points_no_gathered_integers_and_no_recurrent_ones():
    int4 = for_target(PRECISIONS["int4"], "tensorrt")
    assert int4.layers == WeightFormat(bits=4, block_size=32, symmetric=True)
    assert (int4.longest, int4.smallest) == (None, None), "blocks of 8 bits cost a plan kernels"
    assert (int4.embedding, int4.recurrent) == (None, None)
    assert PRECISIONS["int4"].recurrent == RowFormat()
    int8 = for_target(PRECISIONS["int8"], "tensorrt")
    assert int8.layers == WeightFormat(bits=8, block_size=ROW, symmetric=True)
    assert int8.longest is None, "rows have no blocks that could be longer"
    w8a8 = for_target(PRECISIONS["w8a8"], "tensorrt")
    assert (w8a8.layers, w8a8.embedding) == (PRECISIONS["w8a8"].layers, None)


def test_cuda_gets_symmetric_blocks_of_32():
    for name, bits in (("int4", 4), ("int8", 8)):
        precision = for_target(PRECISIONS[name], "ort-cuda")
        assert precision.layers == WeightFormat(bits=bits, block_size=32, symmetric=True)
        assert precision.longest is None
        assert precision.embedding == PRECISIONS[name].embedding


def test_only_few_bits_are_spent_otherwise_without_text():
    changed = [name for name, precision in PRECISIONS.items() if without_text(precision) != precision]
    assert changed == ["int4"]
    assert without_text(PRECISIONS["int4"]).longest == PRECISIONS["int4"].longest


def test_half_precisions_are_the_same_everywhere():
    assert for_target(PRECISIONS["fp16"], "tensorrt") is PRECISIONS["fp16"]


def test_zero_points_for_tensorrt_are_refused_at_once(tmp_path):
    with pytest.raises(InputError, match="no weights with zero points.*Leave --asymmetric out"):
        ExportRequest(checkpoint="x", out=tmp_path, target="tensorrt", precision="int4", symmetric=False)


def test_files_hold_the_bits_that_calibration_rounds_to_and_precisions_speak_of():
    assert STORED_BITS == formats.STORED_BITS == tuple(PLANES)
