from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.exporter.estimates import disk_space as room
from jisu.exporter.estimates.disk_space import disk_space, require_disk
from jisu.exporter.precision.precision import precision_named
from jisu.exporter.quantization.expected_costs import TOKENS, WINDOWS
from jisu.exporter.quantization.matrices import matrices_of
from jisu.exporter.quantization.walked_sensitivity import walked_formats
from jisu.exporter.quantization.weight_formats import FormatChoice, choose_formats
from jisu.exporter.sources import load_source

SIDE = 64 << 20


class Experts(torch.nn.Module):
    """Three experts of 8 x 4, stacked as transformers does it."""

    is_transposed = False

    def __init__(self) -> None:
        super().__init__()
        self.down_proj = torch.nn.Parameter(torch.empty(3, 8, 4, device="meta"))


def needed(module: torch.nn.Module, monkeypatch: pytest.MonkeyPatch, *, in_place: bool) -> int:
    monkeypatch.setattr(room, "is_large", lambda _: True)
    source: Any = SimpleNamespace(module=module, in_place=in_place, weight_bytes=400)
    float32: Any = SimpleNamespace(
        options=SimpleNamespace(precision=SimpleNamespace(name="fp32", layers=None)), choice=None
    )
    float32.choice = SimpleNamespace(formats={})
    return disk_space(Path("artifact"), source, float32, None)[0] - SIDE - 400


def test_weights_that_stay_in_the_checkpoint_take_no_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needed(torch.nn.Linear(4, 8, device="meta"), monkeypatch, in_place=True) == 0
    assert needed(torch.nn.Linear(4, 8, device="meta"), monkeypatch, in_place=False) == 400


def test_stacked_experts_are_copies_of_two_bytes(monkeypatch: pytest.MonkeyPatch) -> None:
    assert needed(Experts(), monkeypatch, in_place=True) == 2 * 3 * 8 * 4


def test_too_little_room_is_an_error(tmp_path: Path) -> None:
    require_disk(10, 10, out=tmp_path / "artifact")
    with pytest.raises(InputError, match="too little free space"):
        require_disk(11, 10, out=tmp_path / "artifact")


def test_layers_that_text_chooses_bits_for_have_integers_of_each_format(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_source: Path
) -> None:
    monkeypatch.setattr(room, "is_large", lambda _: True)
    source = load_source(tiny_source)
    matrices = matrices_of(source.module)
    options: Any = SimpleNamespace(precision=precision_named("int4"))

    def bytes_of(choice: FormatChoice) -> int:
        prepared: Any = SimpleNamespace(options=options, choice=choice, walked=())
        return disk_space(tmp_path / "artifact", source, prepared, None)[0]

    chosen = choose_formats(matrices, options.precision, stored_bits=True)
    layers = [matrix for matrix in matrices if not matrix.embedding]
    inputs = 2 * 4 * WINDOWS * TOKENS * sum(matrix.features for matrix in layers)
    more = 2 * sum(matrix.elements for matrix in layers) + inputs
    assert bytes_of(chosen) - bytes_of(choose_formats(matrices, options.precision)) == more
    assert bytes_of(replace(chosen, algorithm="rtn")) == bytes_of(chosen) - more


def test_a_mixed_precision_has_integers_of_each_format_below_8_bits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, tiny_source: Path
) -> None:
    monkeypatch.setattr(room, "is_large", lambda _: True)
    source = load_source(tiny_source)
    prepared: Any = SimpleNamespace(
        options=SimpleNamespace(precision=precision_named("mixed"), keep=()),
        choice=FormatChoice(formats={}, algorithm="none"),
        walked=tuple(walked_formats(source, target="ort-cpu")),
    )
    assert len(prepared.walked) == 5
    inputs = 2 * 4 * WINDOWS * TOKENS * sum(one.features for one in matrices_of(source.module) if not one.embedding)
    needed = disk_space(tmp_path / "artifact", source, prepared, None)[0]
    # Four formats below 8 bits, and three mixed precisions that are tried.
    assert needed == source.weight_bytes + (4 + 3) * source.weight_bytes // 4 + inputs + room._SIDE_FILES
    prepared.walked = ()
    assert (
        disk_space(tmp_path / "artifact", source, prepared, None)[0] == needed - 3 * source.weight_bytes // 4 - inputs
    )
