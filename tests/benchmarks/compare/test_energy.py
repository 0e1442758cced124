from __future__ import annotations

import pytest

from jisu.benchmarks.compare.energy import joules_between, read_energy


def write_zone(root, name, *, used, most=1_000_000):
    folder = root / name
    folder.mkdir(exist_ok=True)
    (folder / "energy_uj").write_text(f"{used}\n")
    (folder / "max_energy_range_uj").write_text(f"{most}\n")


def test_packages_are_added_up_and_a_counter_may_begin_anew(tmp_path):
    write_zone(tmp_path, "intel-rapl:0", used=900_000)
    write_zone(tmp_path, "intel-rapl:0:0", used=5)  # a part of package 0
    write_zone(tmp_path, "intel-rapl:1", used=100)
    before = read_energy(tmp_path)
    write_zone(tmp_path, "intel-rapl:0", used=99_999)
    write_zone(tmp_path, "intel-rapl:1", used=300_100)
    assert joules_between(before, read_energy(tmp_path)) == pytest.approx(0.2 + 0.3)


def test_a_machine_that_does_not_tell_has_no_energy(tmp_path):
    assert read_energy(tmp_path) is None
    assert joules_between(None, None) is None
