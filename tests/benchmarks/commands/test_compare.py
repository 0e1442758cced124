from __future__ import annotations

import json
from xml.etree import ElementTree

import pytest

from jisu import main


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


def test_a_regression_ends_with_4_and_is_a_failure_in_junit(tiny, baseline, tmp_path, capsys):
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
        (["nothing", "--workloads", "short"], "There is no such workload"),
        (["nothing"], "Nothing could be measured"),
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
