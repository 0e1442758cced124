from __future__ import annotations

import json
from dataclasses import replace
from hashlib import sha256

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.tensorrt.plan_file import (
    PlanKey,
    PlanRecord,
    part_path,
    plan_path,
    read_plan,
    reason_to_build,
    require_folder,
    write_plan,
)
from jisu.runtimes.backends.tensorrt.profiles import Shapes

KEY = PlanKey(graph=("a" * 64, "b" * 64), library="tensorrt-rtx 1.7", target="sm89", shapes=Shapes())
PLAN = b"a plan" * 100


@pytest.fixture
def path(tmp_path):
    place = plan_path(tmp_path / "plans", backend="tensorrt-rtx", target="sm89")
    write_plan(place, PLAN, record_of(PLAN))
    return place


def record_of(plan):
    return PlanRecord(key=KEY.to_dict(), size=len(plan), sha256=sha256(plan).hexdigest(), seconds=1.0)


def test_a_plan_is_read_back(path):
    assert read_plan(path, KEY) == PLAN
    assert reason_to_build(path, KEY) is None
    assert sorted(item.name for item in path.parent.iterdir()) == [path.name, f"{path.name}.json"]


def test_a_gpu_with_a_long_name_gets_a_plain_file(tmp_path):
    assert (
        plan_path(tmp_path, backend="tensorrt", target="NVIDIA H200 sm90").name == "tensorrt-nvidia-h200-sm90.plan.gz"
    )


def test_an_encoders_plan_lies_beside_its_decoders(path):
    assert part_path(path, "") == path
    assert part_path(path, "encoder") == path.with_name("tensorrt-rtx-sm89.encoder.plan.gz")
    assert "source" not in KEY.to_dict()["shapes"]
    assert replace(KEY, shapes=Shapes(source=9)).to_dict()["shapes"]["source"] == 9


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"graph": ("c",)}, "the graph or its weights changed"),
        ({"library": "tensorrt-rtx 1.8"}, "the library is another one"),
        ({"target": "sm86"}, "it is for another GPU"),
        ({"shapes": Shapes(capacity=64, prompt=64)}, "capacity, prompt or batch changed"),
        ({"options": ("refit",)}, "the profiles or options changed"),
        ({"target": "sm86", "library": "x"}, "the library is another one, it is for another GPU"),
    ],
)
def test_another_key_is_told_apart(path, changes, why):
    assert reason_to_build(path, replace(KEY, **changes)) == why
    with pytest.raises(InputError, match="cannot be used") as caught:
        read_plan(path, replace(KEY, **changes))
    assert why in str(caught.value)


def test_damage_is_one_clear_error(path):
    path.write_bytes(PLAN[:-1] + b"?")
    with pytest.raises(InputError, match="its bytes are not those that were written"):
        read_plan(path, KEY)
    path.write_bytes(PLAN[:-1])
    with pytest.raises(InputError, match="it has 599 bytes instead of 600"):
        read_plan(path, KEY)


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"schema": 2}', '{"schema": 1, "key": 1}'])
def test_a_damaged_record_is_no_record(path, text):
    path.with_name(f"{path.name}.json").write_text(text)
    with pytest.raises(InputError, match="record .* is missing or damaged"):
        read_plan(path, KEY)


def test_a_missing_plan_says_how_it_is_built(tmp_path):
    with pytest.raises(InputError, match="there is none yet.*jisu build"):
        read_plan(tmp_path / "no.plan.gz", KEY)


def test_a_plan_without_its_own_record_is_never_used(path):
    """As an interrupted write leaves it."""
    place = path.with_name(f"{path.name}.json")
    old = json.loads(place.read_text())
    write_plan(path, b"another plan", record_of(b"another plan"))
    place.write_text(json.dumps(old))
    assert reason_to_build(path, KEY) == "it has 12 bytes instead of 600"


def test_a_folder_that_takes_no_files_is_one_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    place = plan_path(tmp_path / "file" / "plans", backend="tensorrt", target="sm90")
    with pytest.raises(InputError, match="cannot be written.*choose another --out"):
        write_plan(place, PLAN, record_of(PLAN))


def test_a_folder_that_takes_no_files_is_told_before_the_build(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(InputError, match="No plan can be written to .*file.*jisu build ARTIFACT --out FOLDER"):
        require_folder(tmp_path / "file")
    require_folder(tmp_path / "new", room=1)
    with pytest.raises(InputError, match="no room for a plan in .* MB free.*more than 1000000000000 MB.*--out FOLDER"):
        require_folder(tmp_path / "new", room=10**18)
    assert list((tmp_path / "new").iterdir()) == []


def test_a_full_folder_leaves_nothing_half_written(tmp_path, monkeypatch):
    import errno
    from pathlib import Path

    def full(self, target):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(Path, "replace", full)
    with pytest.raises(InputError, match="No space left on device"):
        write_plan(tmp_path / "a.plan.gz", PLAN, record_of(PLAN))
    assert list(tmp_path.iterdir()) == []
