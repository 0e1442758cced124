from __future__ import annotations

from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.backend_options import BackendOptions


def test_only_what_is_set_is_passed_on() -> None:
    assert BackendOptions().of_some_backends == {}
    options = BackendOptions(threads=2, source="x", allow_cpu_nodes=True, plan="plans", capacity=64)
    assert options.of_some_backends == {"allow_cpu_nodes": True, "plan": Path("plans"), "capacity": 64}


@pytest.mark.parametrize("threads", [0, 1025, 99999])
def test_no_threads_are_too_few_and_more_than_any_machine_has_too_many(threads: int) -> None:
    with pytest.raises(InputError, match=r"threads is out of range.*1 to 1024"):
        BackendOptions(threads=threads)


@pytest.mark.parametrize(("source", "can"), [(None, True), ("folder", True), (Path("folder"), True), (object(), False)])
def test_a_module_stays_in_its_process(source: object, can: bool) -> None:
    assert BackendOptions(source=source).can_be_pickled is can


def test_a_plan_is_found_from_any_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert BackendOptions(plan="plans").with_absolute_paths().plan == tmp_path / "plans"
    assert BackendOptions(threads=1).with_absolute_paths() == BackendOptions(threads=1)
