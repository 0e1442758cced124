from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jisu.runtimes.machine import threads
from jisu.runtimes.machine.threads import physical_cores, usable_threads
from tests.runtimes.tiny_models import write_artifact


@pytest.mark.parametrize(("limit", "expected"), [(None, 4), (2.0, 2), (2.9, 2), (0.5, 1), (64.0, 4)])
def test_affinity_and_quota_bound_the_threads(
    monkeypatch: pytest.MonkeyPatch, limit: float | None, expected: int
) -> None:
    monkeypatch.setattr(threads, "_affinity", lambda: {1000, 1001, 1002, 1003})
    monkeypatch.setattr(threads, "cgroup_cpus", lambda: limit)
    assert usable_threads() == expected


def test_two_cpus_of_a_core_count_once(tmp_path: Path) -> None:
    for cpu, core in enumerate((0, 1, 0, 1)):
        place = tmp_path / f"cpu{cpu}" / "topology"
        place.mkdir(parents=True)
        (place / "core_id").write_text(f"{core}\n")
        (place / "physical_package_id").write_text("0\n")
    assert physical_cores(range(4), tmp_path) == 2
    assert physical_cores([0, 2], tmp_path) == 1
    assert physical_cores([0, 7, 8], tmp_path) == 3


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no affinity here")
def test_a_session_has_the_threads_that_the_process_may_use(tmp_path: Path) -> None:
    write_artifact(tmp_path / "artifact", "ort-cpu")
    code = (
        "import os, sys\nos.sched_setaffinity(0, [min(os.sched_getaffinity(0))])\n"
        "from jisu.runtimes.opening import load\n"
        "with load(sys.argv[1]) as engine:\n"
        "    print(engine.backend._opened.get().get_session_options().intra_op_num_threads)\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code, str(tmp_path / "artifact")], capture_output=True, text=True, check=True
    )
    assert done.stdout.strip() == "1"
