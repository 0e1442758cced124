"""What is stored is read again, whatever is let go of, and no file stays behind."""

from __future__ import annotations

import gc
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from jisu.exporter.jobs import scratch_file
from jisu.exporter.jobs.scratch_file import ScratchFile


def resident(array: np.ndarray) -> int:
    """Bytes of an array's pages that are in this process's memory, by the kernel's own account."""
    address, size = array.ctypes.data, array.nbytes
    with Path("/proc/self/pagemap").open("rb") as table:
        table.seek(address // 4096 * 8)
        entries = np.frombuffer(table.read(size // 4096 * 8), np.uint64)
    return int((entries >> np.uint64(63)).sum()) * 4096


@pytest.mark.parametrize("dtype", [np.float32, np.uint8, np.int64])
def test_arrays_come_back_in_shape_and_dtype(tmp_path: Path, dtype: type) -> None:
    scratch = ScratchFile(tmp_path)
    arrays = [np.arange(number * 7, dtype=dtype).reshape(number, 7) for number in (1, 3, 1000)]
    stored = [scratch.store(array) for array in arrays]
    scratch.let_go()
    for array, copy in zip(arrays, stored, strict=True):
        assert copy.dtype == array.dtype
        np.testing.assert_array_equal(copy, array)


def test_a_transposed_array_is_stored_as_it_reads(tmp_path: Path) -> None:
    array = np.arange(12.0).reshape(3, 4).T
    np.testing.assert_array_equal(ScratchFile(tmp_path).store(array), array)


def test_rows_that_come_in_pieces_are_one_array(tmp_path: Path) -> None:
    scratch = ScratchFile(tmp_path)
    array = np.arange(35_000, dtype=np.float32).reshape(5_000, 7)
    before = scratch.store(np.ones(3, np.uint8))
    stored = scratch.store_pieces(
        array.shape, array.dtype, (array[start : start + 999] for start in range(0, 5000, 999))
    )
    np.testing.assert_array_equal(stored, array)
    np.testing.assert_array_equal(before, 1)


def test_pieces_that_are_not_all_rows_are_refused(tmp_path: Path) -> None:
    with pytest.raises(AssertionError, match="rows"):
        ScratchFile(tmp_path).store_pieces((3, 2), np.float32, [np.ones((2, 2), np.float32)])


def test_an_empty_array_takes_no_place(tmp_path: Path) -> None:
    scratch = ScratchFile(tmp_path)
    assert scratch.store(np.empty((0, 3), np.float32)).shape == (0, 3)
    assert scratch.stored_bytes == 0


def test_arrays_beyond_the_first_segment_are_kept_apart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(scratch_file, "_FIRST_SEGMENT", 4 * scratch_file._PAGE)
    scratch = ScratchFile(tmp_path)
    arrays = [np.full(scratch_file._PAGE * pages, pages, np.uint8) for pages in (3, 2, 1, 9, 40, 1)]
    stored = [scratch.store(array) for array in arrays]
    for array, copy in zip(arrays, stored, strict=True):
        np.testing.assert_array_equal(copy, array)


def test_what_is_written_in_place_survives_being_let_go_of(tmp_path: Path) -> None:
    scratch = ScratchFile(tmp_path)
    stored = scratch.store(np.zeros(100_000, np.float32))
    stored[5] = 3.0
    scratch.let_go()
    assert stored[5] == 3.0


@pytest.mark.skipif(not Path("/proc/self/pagemap").exists(), reason="only Linux tells which pages are in memory")
def test_letting_go_gives_the_memory_back(tmp_path: Path) -> None:
    scratch = ScratchFile(tmp_path)
    stored = scratch.store(np.ones(8 << 20, np.uint8))
    stored.sum()
    assert resident(stored) > 4 << 20
    scratch.let_go()
    assert resident(stored) == 0


def test_threads_store_beside_each_other(tmp_path: Path) -> None:
    scratch = ScratchFile(tmp_path)
    arrays = [np.full(50_000, number, np.int64) for number in range(64)]
    with ThreadPoolExecutor(8) as pool:
        stored = list(pool.map(scratch.store, arrays))
    for array, copy in zip(arrays, stored, strict=True):
        np.testing.assert_array_equal(copy, array)


def test_addresses_inside_are_told_from_others(tmp_path: Path) -> None:
    scratch = ScratchFile(tmp_path)
    array = np.arange(1000)
    stored = scratch.store(array)
    assert scratch.holds(stored.ctypes.data)
    assert not scratch.holds(array.ctypes.data)


def test_arrays_outlive_the_object_and_no_file_stays(tmp_path: Path) -> None:
    stored = ScratchFile(tmp_path).store(np.arange(10_000))
    gc.collect()
    assert int(stored[-1]) == 9999
    assert list(tmp_path.iterdir()) == []
