from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.code_planes import PLANES, can_store, join_planes, pack_plane, plane_width


def test_planes_by_hand():
    codes = np.array([[0b10110100, 0b01001000] * 4], np.uint8)
    assert pack_plane(codes, lowest=4, width=4).tolist() == [[0b10111011, 0b01000100] * 2]
    assert pack_plane(codes, lowest=2, width=2).tolist() == [[0b01010101, 0b10101010]]
    assert pack_plane(codes, lowest=2, width=1).tolist() == [[0b01010101]]


@pytest.mark.parametrize("bits", PLANES)
def test_codes_come_back(bits):
    codes = np.random.default_rng(bits).integers(0, 1 << bits, (7, 48)).astype(np.uint8) << np.uint8(8 - bits)
    planes, above = {}, 0
    for width in PLANES[bits]:
        planes[width] = pack_plane(codes, lowest=8 - above - width, width=width)
        above += width
    assert sum(plane.nbytes for plane in planes.values()) == 7 * 48 * bits // 8
    np.testing.assert_array_equal(join_planes(planes, bits=bits), codes)


def test_planes_that_do_not_belong_together_are_refused():
    with pytest.raises(ValueError, match="a plane of 2 bits"):
        join_planes({4: np.zeros((3, 8), np.uint8), 2: np.zeros((3, 8), np.uint8)}, bits=6)
    with pytest.raises(KeyError):
        join_planes({4: np.zeros((3, 8), np.uint8)}, bits=6)


def test_a_row_that_ends_within_a_byte_of_a_plane_cannot_be_stored():
    assert can_store(24)
    assert not can_store(20)


def test_a_plane_is_known_by_the_end_of_its_name():
    assert plane_width("trunk.planes.0.q.weight.codes.plane4") == 4
    assert plane_width("w.codes.plane2.128") == 2
    for name in ("trunk.planes.0.q.weight", "x.plane4.q", "x.plane8", "shift_by_4", ""):
        assert plane_width(name) is None
