from __future__ import annotations

import json
import sys
from xml.etree import ElementTree

import pytest

from jisu import main
from jisu.benchmarks.compare.workloads import TEXT_GENERATION, WORKLOADS, Workload


def compare(capsys, *words):
    code = main(["compare", *map(str, words)])
    return code, capsys.readouterr()


@pytest.fixture(scope="module")
def baseline(tiny, tmp_path_factory):
    """A report of three trials, whose speeds have been multiplied by a thousand."""
    out = tmp_path_factory.mktemp("baseline") / "report"
    words = ["compare", tiny.int8, "--workloads", "short-chat", "--trials", "3", "--threads", "1", "--out", out]
    assert main([str(word) for word in [*words, "--quiet"]]) == 0
    return out / "report.json"


def test_a_report_is_written_in_all_forms_and_its_table_printed(baseline):
    assert sorted(path.name for path in baseline.parent.iterdir()) == [
        "junit.xml",
        "report.html",
        "report.json",
        "report.md",
    ]


def test_a_regression_ends_with_4_and_is_a_failure_in_junit(tiny, baseline, tmp_path, capsys, monkeypatch):
    loops = json.loads(baseline.read_text())["machine"]["loops_per_s"]
    monkeypatch.setattr("jisu.benchmarks.compare.run.measure_machine_speed", lambda threads: loops)
    faster = json.loads(baseline.read_text())
    summary = faster["rows"][0]["measured"]["short-chat"]["decode_tokens_per_s"]
    summary |= {key: 1000 * summary[key] for key in ("median", "low", "high", "least", "most")}
    (tmp_path / "base.json").write_text(json.dumps(faster))
    junit = tmp_path / "junit.xml"
    words = [
        "--workloads",
        "short-chat",
        "--trials",
        "3",
        "--threads",
        "1",
        "--out",
        tmp_path / "report",
        "--no-quality",
    ]
    code, said = compare(
        capsys, tiny.int8, *words, "--baseline", tmp_path / "base.json", "--max-slowdown", "50%", "--junit", junit
    )
    assert code == 4
    assert "**regressed**: int8 (ort-cpu), decode on short-chat" in said.out
    failures = [
        case.get("name") for case in ElementTree.parse(junit).iter("testcase") if case.find("failure") is not None
    ]
    assert "decode on short-chat" in failures
    assert "regressed" in (tmp_path / "report" / "report.html").read_text()


def test_a_slowdown_is_found_on_another_machine_by_a_reference_of_the_same_run(tiny, baseline, tmp_path, capsys):
    """int8 three times as fast in the baseline as now, beside fp32, on a machine with half the cores."""
    words = ["--workloads", "short-chat", "--trials", "3", "--threads", "1", "--no-quality"]
    words += ["--relative-to", "fp32 (ort-cpu)"]
    code, _ = compare(capsys, tiny.fp32, tiny.int8, *words, "--out", tmp_path / "base", "--quiet")
    assert code == 0
    base = json.loads((tmp_path / "base" / "report.json").read_text())
    base["machine"]["cores"] += 2
    summary = base["rows"][1]["relative"]["short-chat"]["decode_tokens_per_s"]
    assert summary["trials"] == 3
    summary |= {key: 1000 * summary[key] for key in ("median", "low", "high", "least", "most")}
    (tmp_path / "base.json").write_text(json.dumps(base))
    words += ["--out", tmp_path / "report", "--baseline", tmp_path / "base.json", "--quiet"]
    code, said = compare(capsys, tiny.fp32, tiny.int8, *words)
    assert code == 4
    assert "**regressed**: int8 (ort-cpu), decode on short-chat relative to fp32 (ort-cpu)" in said.out
    assert "warning: Tokens per second and memory were not compared" in said.err
    assert "the number of cores" in said.err
    assert "> **Not compared:** Tokens per second" in said.out.split("\n| ")[0]


@pytest.mark.parametrize(
    ("words", "said"),
    [
        ([], "There is nothing to compare"),
        (["nothing", "--max-slowdown", "fast"], "'fast' is not a share"),
        (["nothing", "--min-top1", "95"], "--min-top1 is not a share. Received: 95.0. Allowed: 0 to 1, or 95%"),
        (["nothing", "--time-limit", "inf"], "--time-limit is out of range"),
        (["nothing", "--threads", "9999"], "--threads is more than this machine has"),
        (["nothing", "--max-kl", "-1"], "--max-kl is not a limit"),
        (["nothing", "--max-kl", "1", "--no-quality"], "These limits need a comparison of predictions"),
        (["nothing", "--baseline", "none.json"], "The report none.json cannot be read"),
        (["nothing", "--relative-to", "fp32"], "The reference of --relative-to is not among those compared"),
        (["nothing", "--workloads", "short"], "There is no such workload"),
        (["nothing"], "Nothing could be measured"),
        (["nothing", "--workloads", "short-text"], "Nothing could be measured"),
        (["nothing", "--out", "/dev/null/report"], "cannot be written into"),
        (["nothing", "--peers", "/nowhere"], "There are no models of other engines in /nowhere"),
    ],
)
def test_bad_input_is_one_clear_sentence_and_ends_with_2(words, said, tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    code, streams = compare(capsys, *words)
    assert code == 2
    assert said in streams.err
    assert "Traceback" not in streams.err


# Runs an engine as the worker does, whose every step waits: real code that became slower, in a process of its own.
_WAITING = """
import runpy, time
from jisu.runtimes.backends.ort_cpu.backend import OrtCpuBackend
forward = OrtCpuBackend.forward
def waiting(*arguments, **more):
    time.sleep({seconds})
    return forward(*arguments, **more)
OrtCpuBackend.forward = waiting
runpy.run_module("jisu.benchmarks.peers.run_jisu", run_name="__main__", alter_sys=True)
"""


def test_code_that_became_a_fifth_slower_is_found_and_the_same_code_is_not(tiny, tmp_path, capsys, monkeypatch):
    steps = {"fp32": 0.02, "int8": 0.02}

    def command(folder, backend, threads, source):
        return sys.executable, "-c", _WAITING.format(seconds=steps[folder.name]), str(folder), backend, str(threads)

    monkeypatch.setattr("jisu.benchmarks.compare.contestants._command", command)
    monkeypatch.setattr("jisu.benchmarks.compare.run.measure_machine_speed", lambda threads: 100.0)
    short = Workload(name="short-chat", prompt_tokens=8, new_tokens=12)
    monkeypatch.setitem(WORKLOADS[TEXT_GENERATION], "short-chat", short)
    words = [tiny.fp32, tiny.int8, "--workloads", "short-chat", "--trials", "5", "--threads", "1", "--no-quality"]
    words += ["--relative-to", "fp32 (ort-cpu)", "--quiet"]
    assert compare(capsys, *words, "--out", tmp_path / "base")[0] == 0
    words += ["--baseline", tmp_path / "base" / "report.json", "--max-slowdown", "10%"]
    code, said = compare(capsys, *words, "--out", tmp_path / "same")
    assert code == 0, said.out
    steps["int8"] *= 1.25
    code, said = compare(capsys, *words, "--out", tmp_path / "slower")
    assert code == 4
    assert "**regressed**: int8 (ort-cpu), decode on short-chat" in said.out, "tokens per second, on the same machine"
    assert "decode on short-chat relative to fp32 (ort-cpu)" in said.out, "and beside a row of the same run"
