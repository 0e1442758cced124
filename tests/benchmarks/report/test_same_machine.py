from __future__ import annotations

import pytest

from jisu.benchmarks.report.same_machine import feature_differences, machine_differences
from tests.benchmarks.made_report import made_report

GIB = 1 << 30


def differences(**machine):
    baseline = made_report()
    baseline["machine"] |= machine
    return machine_differences(made_report(), baseline)


@pytest.mark.parametrize(
    "machine",
    [
        {},
        {"memory_bytes": 25_000_000_000 - 438_000},
        {"memory_bytes": 25_000_000_000 + GIB // 2},
        {"load": [9.0, 9.0, 9.0], "python": "3.12.1"},
        {"loops_per_s": 95.0},
        {"loops_per_s": 109.0},
    ],
)
def test_what_does_not_change_the_speed_makes_no_other_machine(machine):
    assert differences(**machine) == []


@pytest.mark.parametrize(
    ("machine", "said"),
    [
        ({"processor": "Slow CPU"}, "the CPU is Quick <b>CPU</b> 9000, was Slow CPU"),
        ({"design": "vendor_id AuthenticAMD, cpu family 25, model 17, stepping 1"}, "the CPU design is"),
        ({"features": ["avx2", "avx512", "avx512_vnni"]}, "lacks avx512, avx512_vnni, unlike the baseline's"),
        ({"features": None}, "the CPU features are avx2, were unknown"),
        ({"cores": 4}, "the number of cores is 2, was 4"),
        ({"memory_bytes": 25_000_000_000 - 2 * GIB}, "the memory is 23.3 GiB, was 21.3 GiB"),
        ({"memory_bytes": None}, "was unknown"),
        ({"system": "Linux aarch64"}, "the system is"),
        ({"loops_per_s": 125.0}, "a fixed loop runs at 80 % of the baseline's speed"),
        ({"loops_per_s": 80.0}, "a fixed loop runs at 125 % of the baseline's speed"),
        ({"loops_per_s": None}, "how fast the machine was is unknown in the baseline"),
    ],
)
def test_what_changes_the_speed_is_another_machine(machine, said):
    [difference] = differences(**machine)
    assert said in difference


def test_a_baseline_of_an_earlier_version_says_too_little():
    baseline = made_report()
    for name in ("design", "features", "loops_per_s"):
        del baseline["machine"][name]
    assert len(machine_differences(made_report(), baseline)) == 3


def test_features_are_compared_in_any_order():
    one, other = made_report(), made_report()
    one["machine"]["features"], other["machine"]["features"] = ["avx2"], ["avx2", "amx_int8"]
    assert feature_differences(one, other) == ["the CPU lacks amx_int8, unlike the baseline's"]
    assert feature_differences(other, one) == ["the CPU has amx_int8, unlike the baseline's"]
