"""Pickles of any torch are read, and what they hold besides weights is said or refused."""

from __future__ import annotations

from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.pickled_weights import read_pickled_weights

torch = pytest.importorskip("torch", reason="torch writes these files")

WEIGHTS = {"a.weight": [[1.0, 2.0], [3.0, 4.0]], "b.bias": [5.0]}


def table() -> OrderedDict[str, Any]:
    return OrderedDict((name, torch.tensor(values)) for name, values in WEIGHTS.items())


def read(tmp_path: Path, stored: Any, *, archive: bool = True) -> tuple[dict[str, Any], list[str]]:
    torch.save(stored, tmp_path / "weights.bin", _use_new_zipfile_serialization=archive)
    weights, notes = read_pickled_weights([tmp_path / "weights.bin"])
    return {name: weight.tolist() for name, weight in weights.items()}, notes


@pytest.mark.parametrize("archive", [True, False], ids=["archive", "before-torch-1.6"])
def test_both_formats_give_the_same_tensors(tmp_path: Path, *, archive: bool) -> None:
    assert read(tmp_path, table(), archive=archive) == (WEIGHTS, [])


def test_a_view_of_a_shared_storage_keeps_its_shape_in_the_old_format(tmp_path: Path) -> None:
    whole = torch.arange(6.0)
    views = {"first": whole[:2].view(1, 2), "last": whole[2:].view(2, 2).T}
    assert read(tmp_path, views, archive=False)[0] == {"first": [[0.0, 1.0]], "last": [[2.0, 4.0], [3.0, 5.0]]}


@pytest.mark.parametrize(
    "stored",
    [
        {"state_dict": table(), "epoch": 3, "optimizer": {"state": {}, "step": 1}},
        {"epoch": 3, "optimizer": [], "model": {"state_dict": table()}},
    ],
)
def test_weights_in_a_trainers_record_are_found_and_the_rest_is_said(tmp_path: Path, stored: Any) -> None:
    weights, notes = read(tmp_path, stored)
    assert weights == WEIGHTS
    assert notes == ["weights.bin holds more than weights; left out: epoch, optimizer."]


def test_a_list_of_tables_is_put_together(tmp_path: Path) -> None:
    one, other = ({name: tensor} for name, tensor in table().items())
    assert read(tmp_path, [one, other]) == (WEIGHTS, [])
    with pytest.raises(InputError, match="stored twice"):
        read(tmp_path, [one, one])


@pytest.mark.parametrize(
    "stored",
    [
        {"model": {"a": torch.ones(1)}, "state_dict": {"a": torch.zeros(1)}},
        {"ema": {"a": torch.ones(1)}},
        {"epoch": 3},
        torch.ones(2),
        [],
    ],
    ids=["two tables", "unknown key", "no weights", "a tensor", "nothing"],
)
def test_what_is_no_one_table_is_refused(tmp_path: Path, stored: Any) -> None:
    with pytest.raises(InputError, match="does not hold a table of weights"):
        read(tmp_path, stored)


def test_a_damaged_file_is_refused(tmp_path: Path) -> None:
    torch.save(table(), tmp_path / "weights.bin", _use_new_zipfile_serialization=False)
    content = (tmp_path / "weights.bin").read_bytes()
    for size in (0, 1, 100, len(content) - 1):
        (tmp_path / "weights.bin").write_bytes(content[:size])
        with pytest.raises(InputError, match="cannot be read as weights"):
            read_pickled_weights([tmp_path / "weights.bin"])
