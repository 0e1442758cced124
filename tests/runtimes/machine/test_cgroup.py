from __future__ import annotations

from pathlib import Path

import pytest

from jisu.runtimes.machine.cgroup import cgroup_cpus, cgroup_memory

OWN = {
    "2": "0::/slice/job\n",
    "2, a path of the host": "0::/not/visible/here\n",
    "2, above the root": "0::/../other\n",
    "1": "12:memory:/slice/job\n4:cpu,cpuacct:/slice/job\n1:name=systemd:/x\n",
    "1, one by one": "5:cpuacct:/\n3:cpu:/slice/job\n2:memory:/slice/job\n0::/\n",
    "none": "",
}


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def places(tmp_path: Path, own: str) -> tuple[Path, Path]:
    write(tmp_path / "own", OWN[own])
    (tmp_path / "root").mkdir(exist_ok=True)
    return tmp_path / "root", tmp_path / "own"


@pytest.mark.parametrize(
    ("own", "files", "limit"),
    [
        ("2", {"slice/job/cpu.max": "150000 100000\n"}, 1.5),
        ("2", {"slice/job/cpu.max": "max 100000\n"}, None),
        ("2", {"slice/job/cpu.max": "max 100000\n", "slice/cpu.max": "200000 100000\n"}, 2),
        ("2", {"slice/job/cpu.max": "300000 100000\n", "slice/cpu.max": "400000 100000\n"}, 3),
        ("2, a path of the host", {"cpu.max": "50000 100000\n"}, 0.5),
        ("2, above the root", {"cpu.max": "50000 100000\n"}, 0.5),
        ("2", {"slice/job/cpu.max": "broken\n"}, None),
        ("1", {"cpu,cpuacct/slice/job/cpu.cfs_quota_us": "250000\n"}, 2.5),
        ("1", {"cpu,cpuacct/slice/job/cpu.cfs_quota_us": "-1\n"}, None),
        ("1", {"cpu,cpuacct/slice/cpu.cfs_quota_us": "100000\n", "cpu/slice/job/cpu.cfs_quota_us": "-1\n"}, 1),
        ("1", {"cpu,cpuacct/cpu.cfs_quota_us": "100000\n"}, 1),
        ("1, one by one", {"cpu/slice/job/cpu.cfs_quota_us": "200000\n"}, 2),
        ("1, one by one", {"unified/cpu.max": "100000 100000\n"}, 1),
        ("none", {"cpu.max": "100000 100000\n"}, 1),
        ("none", {"cpu/cpu.cfs_quota_us": "100000\n"}, 1),
        ("none", {}, None),
    ],
)
def test_the_smallest_quota_counts(tmp_path: Path, own: str, files: dict[str, str], limit: float | None) -> None:
    root, mine = places(tmp_path, own)
    for name, text in files.items():
        write(root / name, text)
        if name.endswith("quota_us"):
            write((root / name).with_name("cpu.cfs_period_us"), "100000\n")
    assert cgroup_cpus(root, mine) == limit


@pytest.mark.parametrize(
    ("own", "files", "actual"),
    [
        ("2", {"slice/job/memory.max": "max\n", "slice/job/memory.current": "5\n"}, (None, None)),
        ("2", {"slice/job/memory.max": "1073741824\n", "slice/job/memory.current": "5\n"}, (1 << 30, 5)),
        ("2", {"slice/memory.max": "100\n", "slice/job/memory.max": "200\n"}, (100, None)),
        ("1", {"memory/slice/job/memory.limit_in_bytes": "9223372036854771712\n"}, (None, None)),
        (
            "1",
            {"memory/slice/job/memory.limit_in_bytes": "100\n", "memory/slice/job/memory.usage_in_bytes": "7\n"},
            (100, 7),
        ),
        ("none", {}, (None, None)),
    ],
)
def test_the_smallest_memory_limit_counts(
    tmp_path: Path, own: str, files: dict[str, str], actual: tuple[int | None, int | None]
) -> None:
    root, mine = places(tmp_path, own)
    for name, text in files.items():
        write(root / name, text)
    assert cgroup_memory(root, mine) == actual
