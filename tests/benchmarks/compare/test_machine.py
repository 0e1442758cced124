from __future__ import annotations

from jisu.benchmarks.compare.machine import machine, machine_identity, machine_kind

ROME = """processor\t: 0
vendor_id\t: AuthenticAMD
cpu family\t: 25
model\t\t: 1
model name\t: AMD EPYC
stepping\t: 1
flags\t\t: fpu sse4_1 avx2

processor\t: 1
model\t\t: 2
"""
TURIN = ROME.replace(": 25", ": 26").replace("avx2", "avx2 avx512f avx512_vnni avx_vnni")
ARM = """processor\t: 0
Features\t: fp asimd asimddp i8mm
CPU implementer\t: 0x41
CPU part\t: 0xd40
"""


def test_two_cpus_of_one_name_are_told_apart():
    old, new = machine(ROME), machine(TURIN)
    assert old["processor"] == new["processor"] == "AMD EPYC"
    assert old["design"] == "vendor_id AuthenticAMD, cpu family 25, model 1, stepping 1"
    assert old["features"] == ["avx2"]
    assert new["features"] == ["avx2", "avx512", "avx512_vnni", "avx_vnni"]
    assert machine_identity(old) != machine_identity(new)


def test_an_arm_cpu_is_known_by_its_own_keys():
    actual = machine(ARM)
    assert actual["design"] == "CPU implementer 0x41, CPU part 0xd40"
    assert actual["features"] == ["neon_dotprod", "neon_i8mm"]


def test_a_system_that_tells_nothing_has_a_machine_all_the_same():
    actual = machine("")
    assert (actual["design"], actual["features"]) == (None, None)
    assert actual["processor"]


def test_a_run_resumes_whatever_the_load_and_the_last_bytes_of_memory():
    actual = machine(ROME)
    gib = round(actual["memory_bytes"] / (1 << 30)) * (1 << 30)
    one, other = ({**actual, "memory_bytes": gib + more, "load": (load,)} for more, load in ((0, 1), (438_000, 9)))
    assert machine_identity(one) == machine_identity(other)


def test_each_kind_of_cpu_has_a_word_of_its_own_for_file_names():
    kinds = [machine_kind({**machine(text), "system": "Linux x86_64"}) for text in (ROME, TURIN, "")]
    assert kinds == ["linux-x86_64-avx2", "linux-x86_64-avx2-avx512-avx512_vnni-avx_vnni", "linux-x86_64"]
