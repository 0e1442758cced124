from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.token_ids import check_id_array, check_ids, id_array


@pytest.mark.parametrize("token", [-1, 7, 2**70, -(2**70)])
def test_an_unknown_id_is_named_with_what_is_allowed(token: int) -> None:
    with pytest.raises(InputError, match=rf"(?s)not in the vocabulary.*Received: {token}.*0 to 6"):
        check_ids([[], [0, 6], [3, token]], 7)


def test_known_ids_pass() -> None:
    check_ids([[], [0, 6]], 7)
    check_id_array(np.array([[0, 6]]), 7)


def test_a_number_that_python_does_not_write_is_refused_too() -> None:
    with pytest.raises(InputError, match=r"(?s)not in the vocabulary.*a very large int"):
        check_ids([[1 << 20000]], 7)


@pytest.mark.parametrize("token", [-1, 7])
def test_arrays_are_checked_alike(token: int) -> None:
    with pytest.raises(InputError, match=rf"(?s)not in the vocabulary.*Received: {token}"):
        check_id_array(np.array([[0, token]]), 7)


@pytest.mark.parametrize(
    "wrong", [[[1.0]], [[True]], [["a"]], [[2**70]], np.array([[2**63]], np.uint64), [[1, 2], [3]]], ids=str
)
def test_nothing_is_rounded_or_cut(wrong: object) -> None:
    with pytest.raises(InputError, match="not token ids"):
        id_array(wrong)  # type: ignore[arg-type]


def test_whole_numbers_of_any_type_are_ids() -> None:
    actual = id_array(np.array([[1, 2]], np.uint8))
    assert actual.dtype == np.int64
    assert actual.tolist() == [[1, 2]]
