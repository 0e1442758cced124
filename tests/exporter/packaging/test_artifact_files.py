from __future__ import annotations

import errno
import json
from pathlib import Path
from types import SimpleNamespace

import pytest

from jisu.exporter.contract.artifact import TIMINGS
from jisu.exporter.contract.errors import GateRejectedError, InputError
from jisu.exporter.contract.source_place import SourcePlace, read_place
from jisu.exporter.jobs.stages import Stages
from jisu.exporter.packaging.artifact_files import installed_versions, refusing_to_write, write_timings


@pytest.mark.parametrize(
    "error", [OSError(errno.ENOSPC, "No space left on device"), Exception("No space left on device (os error 28)")]
)
def test_a_full_disk_is_an_input_error(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(InputError, match="No space left on device"), refusing_to_write(tmp_path / "out"):
        raise error


@pytest.mark.parametrize(
    "error", [ValueError("(os error 28)"), Exception("index out of range"), GateRejectedError("x")]
)
def test_any_other_error_stays_what_it_is(tmp_path: Path, error: Exception) -> None:
    with pytest.raises(type(error)) as caught, refusing_to_write(tmp_path / "out"):
        raise error
    assert caught.value is error


def test_the_timings_name_stages_and_passes(tmp_path: Path) -> None:
    stages = Stages()
    with stages.stage("load"):
        pass
    place = SourcePlace(checkpoint="/models/a")
    write_timings(tmp_path, stages, [SimpleNamespace(name="fuse_rope", seconds=0.5)], place=place)
    timings = json.loads((tmp_path / TIMINGS).read_text())
    assert [stage["name"] for stage in timings["stages"]] == ["load"]
    assert timings["passes"] == [{"pass": "fuse_rope", "seconds": 0.5}]
    assert read_place(tmp_path) == place


def test_versions_are_of_installed_packages_only() -> None:
    versions = installed_versions()
    assert "onnx-ir" in versions
    assert all(versions.values())
