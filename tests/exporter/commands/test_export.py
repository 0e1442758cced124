from __future__ import annotations

import json
from xml.etree import ElementTree

import jisu


def test_the_command_says_what_a_half_precision_does_not_give(tiny_source, tmp_path, capsys):
    assert jisu.main(["export", str(tiny_source), "--out", str(tmp_path / "out"), "--precision", "bf16"]) == 0
    said = capsys.readouterr()
    assert "halves the files and nothing else" in said.err
    assert "accepted after" in said.out


def test_it_says_nothing_where_it_was_asked_to(tiny_source, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--precision", "fp16", "--quiet"]
    assert jisu.main(["export", str(tiny_source), *out]) == 0
    assert capsys.readouterr() == ("", "")


def test_the_gates_checks_are_written_as_junit_and_the_result_printed_as_json(tiny_source, tmp_path, capsys):
    report = tmp_path / "reports" / "gate.xml"
    words = ["export", str(tiny_source), "--out", str(tmp_path / "out"), "--report", str(report), "--json"]
    assert jisu.main([*words, "--no-advice"]) == 0
    said = capsys.readouterr()
    actual = json.loads(said.out)
    assert (actual["accepted"], actual["artifact"], actual["precision"]) == (True, str(tmp_path / "out"), "fp32")
    assert actual["seconds"] > 0
    assert actual["size"] > 1000
    assert "accepted after" in said.err
    names = [case.get("name") for case in ElementTree.parse(report).iter("testcase")]
    checks = json.loads((tmp_path / "out" / "manifest.json").read_text(encoding="utf-8"))["gate"]["checks"]
    assert names == [check["name"] for check in checks] == [check["name"] for check in actual["checks"]]


def test_a_rejected_exports_checks_are_written_too(tiny_source, tmp_path, capsys):
    report = tmp_path / "gate.xml"
    words = ["export", str(tiny_source), "--out", str(tmp_path / "out"), "--precision", "int8", "--max-kl", "1e-12"]
    assert jisu.main([*words, "--report", str(report), "--quiet", "--json"]) == 3
    actual = json.loads(capsys.readouterr().out)
    assert (actual["accepted"], actual["artifact"]) == (False, None)
    assert "mean-kl" in [check["name"] for check in actual["checks"] if not check["passed"]]
    failed = [
        case.get("name") for case in ElementTree.parse(report).iter("testcase") if case.find("failure") is not None
    ]
    assert "mean-kl" in failed


def test_a_report_that_cannot_be_written_ends_the_export_before_it_begins(tiny_source, tmp_path, capsys):
    words = ["export", str(tiny_source), "--out", str(tmp_path / "out"), "--report", "/dev/null/gate.xml"]
    assert jisu.main(words) == 2
    assert "The report /dev/null/gate.xml cannot be written" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
