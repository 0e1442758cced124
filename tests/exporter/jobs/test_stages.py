"""Stages are measured, never break the job, and stay quiet where nobody watches."""

from __future__ import annotations

import io
import json
import re
import time

import pytest

from jisu.exporter.jobs import stages as stages_module
from jisu.exporter.jobs.stages import Stages
from tests.support.held_memory import BLOCK, hold_memory


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_each_stage_is_recorded_with_its_time_in_order() -> None:
    stages = Stages()
    with stages.stage("first"):
        time.sleep(0.05)
    with stages.stage("second"):
        pass
    assert [record.name for record in stages.records] == ["first", "second"]
    assert stages.records[0].seconds >= 0.05


def test_peak_belongs_to_the_stage_that_needed_it() -> None:
    stages = Stages()
    with stages.stage("large"):
        hold_memory()
    with stages.stage("small"):
        pass
    large, small = stages.records
    assert large.peak_bytes - small.peak_bytes > BLOCK // 2


def test_outer_peak_includes_what_came_before_within_and_after_the_inner_stage() -> None:
    for where in ("before", "within", "after"):
        stages = Stages()
        with stages.stage("outer"):
            if where == "before":
                hold_memory()
            with stages.stage("inner"):
                if where == "within":
                    hold_memory()
            if where == "after":
                hold_memory()
        inner, outer = stages.records
        assert (inner.name, outer.name) == ("outer/inner", "outer")
        with stages.stage("idle"):
            pass
        idle = stages.records[-1].peak_bytes
        assert outer.peak_bytes - idle > BLOCK // 2
        assert (inner.peak_bytes - idle > BLOCK // 2) == (where == "within")


def test_outer_peak_includes_the_first_of_two_inner_stages() -> None:
    stages = Stages()
    with stages.stage("outer"):
        with stages.stage("large"):
            hold_memory()
        with stages.stage("small"):
            pass
    large, small, outer = stages.records
    assert large.peak_bytes - small.peak_bytes > BLOCK // 2
    assert outer.peak_bytes >= large.peak_bytes


def test_total_counts_an_inner_stage_once() -> None:
    stages = Stages()
    with stages.stage("outer"), stages.stage("inner"):
        time.sleep(0.05)
    assert stages.to_dict()["seconds"] == stages.records[-1].seconds >= 0.05


def test_a_failing_stage_is_recorded_and_its_error_passes() -> None:
    stages = Stages()
    with pytest.raises(KeyboardInterrupt), stages.stage("broken"):
        raise KeyboardInterrupt
    assert [record.name for record in stages.records] == ["broken"]
    with stages.stage("next"):
        pass
    assert stages.records[-1].name == "next"


def test_quiet_where_nobody_watches() -> None:
    stream = io.StringIO()
    stages = Stages(stream=stream)
    with stages.stage("a"):
        stages.advance(1, 2)
    assert stream.getvalue() == ""


def test_verbose_is_one_plain_line_for_each_stage() -> None:
    stream = io.StringIO()
    stages = Stages(stream=stream, verbose=True)
    with stages.stage("a"):
        pass
    with stages.stage("b"):
        pass
    lines = stream.getvalue().splitlines()
    assert [line.split(":")[0] for line in lines] == ["a", "b"]
    assert "\x1b" not in stream.getvalue()


def test_spinner_appears_on_a_terminal_for_slow_stages_only(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages_module, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setenv("TERM", "xterm")
    stream = Terminal()
    stages = Stages(stream=stream)
    with stages.stage("quick"):
        pass
    assert stream.getvalue() == ""
    with stages.stage("slow"):
        time.sleep(0.6)
        stages.advance(3, 4)
        time.sleep(0.3)
    assert "slow" in stream.getvalue()
    assert "0:00:00" in stream.getvalue()
    assert re.search(r"slow: \d+\.\d s, \d\.\d\d GB\n$", stream.getvalue())


def test_a_terminal_is_told_the_time_left(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stages_module, "PATIENCE_SECONDS", 0.1)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setenv("COLUMNS", "200")
    stream = Terminal()
    stages = Stages(stream=stream)
    assert stages.watched
    stages.expect({"slow": 300.0, "later": 600.0})
    with stages.stage("slow"):
        time.sleep(0.5)
    assert "about 5 min left, 15 min in all" in stream.getvalue()


def test_stages_that_have_ended_count_for_what_is_left() -> None:
    stages = Stages()
    with stages.stage("first"):
        time.sleep(0.01)
    stages.expect({"first": 40.0, "second": 40.0})
    assert stages._left.of_stage("second", 0.0, 0.0) == pytest.approx(10.0)
    with stages.stage("second"):
        pass
    assert stages._left._measured.keys() == {"first", "second"}
    assert not stages.watched


def test_closed_stream_does_not_break_the_job() -> None:
    stream = Terminal()
    stages = Stages(stream=stream, verbose=True)
    with stages.stage("a"):
        stream.close()
    with stages.stage("b"):
        pass
    assert len(stages.records) == 2


def test_advance_outside_a_stage_does_nothing() -> None:
    Stages().advance(1, 2)


def test_table_and_dict_tell_the_same() -> None:
    stages = Stages()
    with stages.stage("trace"):
        pass
    data = json.loads(json.dumps(stages.to_dict()))
    assert [entry["name"] for entry in data["stages"]] == ["trace"]
    assert data["peak_bytes"] == data["stages"][0]["peak_bytes"] > 0
    lines = stages.table().splitlines()
    assert [line.split()[0] for line in lines] == ["stage", "trace", "total"]


def test_table_without_stages_has_a_total_of_zero() -> None:
    assert "0.00" in Stages().table().splitlines()[-1]


def test_a_stage_costs_less_than_five_milliseconds() -> None:
    stages = Stages()
    for _ in range(20):
        with stages.stage("nothing"):
            pass
    assert min(record.seconds for record in stages.records) < 0.005
