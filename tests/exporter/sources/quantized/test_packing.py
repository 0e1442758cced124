from __future__ import annotations

import numpy as np

from jisu.exporter.sources.quantized.packing import unpack, unpack_columns, unpack_with_gaps


def test_four_bits_begin_in_the_lowest_bits_of_a_word():
    assert unpack(np.array([[0x76543210]], np.uint32), 4).tolist() == [[0, 1, 2, 3, 4, 5, 6, 7]]


def test_two_and_eight_bits():
    assert unpack(np.array([[0b11100100]], np.uint8), 2).tolist() == [[0, 1, 2, 3]]
    assert unpack(np.array([[0x04030201]], np.int32), 8).tolist() == [[1, 2, 3, 4]]


def test_three_bits_go_on_in_the_next_word():
    codes = [value % 8 for value in range(32)]
    number = sum(code << (3 * place) for place, code in enumerate(codes))
    words = np.array([[(number >> (32 * word)) & 0xFFFFFFFF for word in range(3)]], np.uint32)
    assert unpack(words, 3).tolist() == [codes]


def test_three_bits_with_gaps_leave_two_bits_of_each_word():
    codes = [value % 8 for value in range(10)]
    word = sum(code << (3 * place) for place, code in enumerate(codes))
    assert unpack_with_gaps(np.array([[word, 7]], np.uint32), 3).tolist() == [[*codes, 7, *[0] * 9]]


def test_columns_become_rows():
    assert unpack_columns(np.array([[0x10, 0x32]], np.uint8), 4).tolist() == [[0, 1], [2, 3]]
