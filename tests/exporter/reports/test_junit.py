from __future__ import annotations

from xml.etree import ElementTree

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.reports.junit import JunitCase, check_place, gate_cases, junit_xml, write_junit

GATE = {
    "accepted": False,
    "checks": [
        {"name": "finite", "passed": True, "value": 0, "limit": 0, "unit": "logits", "detail": "All are."},
        {"name": "mean-kl", "passed": False, "value": 0.2, "limit": 0.1, "unit": "nats", "detail": "0.2 > 0.1 & more"},
    ],
}


def test_each_check_is_a_case_and_a_failure_says_why(tmp_path):
    path = tmp_path / "new" / "junit.xml"
    write_junit(path, "gate", gate_cases(GATE))
    suite = ElementTree.parse(path).getroot()[0]
    assert (suite.get("tests"), suite.get("failures"), suite.get("skipped")) == ("2", "1", "0")
    assert [case.get("name") for case in suite] == ["finite", "mean-kl"]
    failure = suite[1].find("failure")
    assert failure is not None
    assert failure.text == "0.2 > 0.1 & more"
    assert suite[0].find("failure") is None


def test_what_xml_cannot_hold_is_replaced():
    text = junit_xml("a\x00b", [JunitCase(group="g\x1b[31m", name="n", passed=False, text="\ud800 \U0001f680 名")])
    suite = ElementTree.fromstring(text)[0]
    assert suite.get("name") == "a\N{REPLACEMENT CHARACTER}b"
    failure = suite[0].find("failure")
    assert failure is not None
    assert failure.text == "\N{REPLACEMENT CHARACTER} \U0001f680 名"


def test_what_was_not_measured_is_skipped_and_no_failure():
    text = junit_xml("a", [JunitCase(group="g", name="n", passed=True, text="not measured", skipped=True)])
    suite = ElementTree.fromstring(text)[0]
    assert (suite.get("failures"), suite.get("skipped")) == ("0", "1")


def test_a_place_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written"):
        check_place(tmp_path / "file" / "junit.xml", option="--junit")


def test_looking_at_a_place_leaves_nothing_there(tmp_path):
    check_place(tmp_path / "junit.xml", option="--junit")
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "junit.xml").write_text("<old/>")
    check_place(tmp_path / "junit.xml", option="--junit")
    assert (tmp_path / "junit.xml").read_text() == "<old/>"
