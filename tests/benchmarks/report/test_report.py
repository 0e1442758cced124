from __future__ import annotations

import json

import pytest

from jisu.benchmarks.report.report import finite, prepare_folder, read_report, write_json, write_report
from jisu.benchmarks.report.schema import KIND, SCHEMA_VERSION
from jisu.exporter.contract.errors import InputError
from tests.benchmarks.made_report import made_report

NAN = float("nan")
DAMAGED = json.dumps({"kind": KIND, "schema_version": SCHEMA_VERSION, "rows": [{}], "workloads": []})


def test_all_four_files_come_from_one_report(tmp_path):
    write_report(made_report(), tmp_path, junit=tmp_path / "ci" / "junit.xml")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ci", "report.html", "report.json", "report.md"]
    assert read_report(tmp_path / "report.json") == made_report()
    assert "<testsuite" in (tmp_path / "ci" / "junit.xml").read_text()


def test_numbers_that_json_does_not_have_become_none(tmp_path):
    data = finite({"a": [float("nan"), 1.5, (float("inf"),)]})
    assert data == {"a": [None, 1.5, [None]]}
    with pytest.raises(ValueError, match="Out of range"):
        write_json({"a": float("nan")}, tmp_path / "report.json")


@pytest.mark.parametrize(
    "content", ["", "[]", "{}", "[" * 100_000, json.dumps({"kind": "something else"}), DAMAGED], ids=range(6)
)
def test_what_is_no_report_is_an_error(tmp_path, content):
    path = tmp_path / "report.json"
    path.write_text(content)
    with pytest.raises(InputError, match="report"):
        read_report(path)
    with pytest.raises(InputError, match="cannot be read"):
        read_report(tmp_path / "nothing.json")


@pytest.mark.parametrize(
    ("figure", "wrong"),
    [("median", 0.0), *((figure, wrong) for figure in ("median", "confidence") for wrong in (None, "fast", NAN, []))],
)
def test_a_report_whose_figures_are_none_is_damaged(tmp_path, figure, wrong):
    report = made_report()
    row = next(row for row in report["rows"] if row["failure"] is None)
    speeds = [value for value in next(iter(row["measured"].values())).values() if isinstance(value, dict)]
    for speed in speeds:
        speed[figure] = wrong
    path = tmp_path / "report.json"
    path.write_text(json.dumps(report))
    with pytest.raises(InputError, match="damaged|cannot be read"):
        read_report(path)


def test_a_report_that_cannot_be_written_leaves_the_one_before(tmp_path):
    import resource

    path = tmp_path / "report.json"
    write_json(made_report(), path)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (4096, before[1]))  # what is longer meets the errors of a full disk
    try:
        with pytest.raises(InputError, match="too large"):
            write_json(made_report(), path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert read_report(path) == made_report()
    assert [file.name for file in tmp_path.iterdir()] == ["report.json"]


def test_a_folder_that_cannot_be_written_is_an_error(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(InputError, match="cannot be written into"):
        prepare_folder(tmp_path / "file")
    with pytest.raises(InputError, match="cannot be written into"):
        prepare_folder(tmp_path / "file" / "report")
