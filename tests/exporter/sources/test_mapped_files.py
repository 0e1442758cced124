"""Tensors of a checkpoint where they lie, and what is said when they no longer lie there."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import mapped_files
from jisu.exporter.sources.mapped_files import MappedFiles
from jisu.exporter.sources.safetensors_files import read_tables

WEIGHTS = {
    "a": torch.arange(6, dtype=torch.bfloat16).reshape(2, 3),
    "b": torch.arange(4, dtype=torch.float16).reshape(4, 1) / 3,
    "c": torch.tensor([1.25]),
}


@pytest.fixture
def file(tmp_path: Path) -> Path:
    save_file(WEIGHTS, tmp_path / "model.safetensors")
    return tmp_path / "model.safetensors"


def test_tensors_are_those_of_the_file_also_when_it_was_let_go_of(file: Path) -> None:
    mapped = MappedFiles()
    tensors = {name: mapped.tensor(stored) for name, stored in read_tables([file]).items()}
    mapped.let_go()
    for name, tensor in tensors.items():
        assert tensor.dtype == WEIGHTS[name].dtype
        assert torch.equal(tensor, WEIGHTS[name])
        assert mapped.holds(tensor.data_ptr())
    assert not mapped.holds(WEIGHTS["a"].data_ptr())


def test_a_file_is_opened_while_another_thread_checks_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """transformers loads shards side by side."""
    shards = [tmp_path / f"{number}.safetensors" for number in range(3)]
    for shard in shards:
        save_file(WEIGHTS, shard)
    mapped, state = MappedFiles(), mapped_files._state
    first, second, third = (read_tables([shard])["a"] for shard in shards)
    mapped.tensor(first)
    mapped.tensor(second)
    late = []

    def state_while_one_is_opened(file: Path) -> tuple[int, int]:
        if not late:
            late.append(third)
            mapped.tensor(third)
        return state(file)

    monkeypatch.setattr(mapped_files, "_state", state_while_one_is_opened)
    mapped.check()
    assert late


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ("shorter", "12 bytes where there were"),
        ("written to", "a later time of its last change"),
        ("removed", "no such file"),
    ],
)
def test_a_file_that_changed_is_refused(file: Path, change: str, said: str) -> None:
    mapped = MappedFiles()
    stored = read_tables([file])["a"]
    mapped.tensor(stored)
    mapped.check()
    if change == "removed":
        file.unlink()
    elif change == "shorter":
        os.truncate(file, 12)
    else:
        os.utime(file, ns=(1, 1))
    with pytest.raises(InputError, match="changed while it was read") as refusal:
        mapped.tensor(stored)
    assert said in str(refusal.value)
