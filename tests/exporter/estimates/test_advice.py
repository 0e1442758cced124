from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

import jisu
from jisu.exporter.contract.artifact import TIMINGS, read_artifact
from jisu.exporter.estimates import advice
from jisu.exporter.estimates.advice import Advice, Rate, advice_of, advise, record_advice

MEASURED = Advice(
    precision="int8",
    decode=Rate(median=126.4, low=119.0, high=131.0),
    prefill=Rate(median=827, low=800, high=840),
)


def test_what_was_measured_is_said_with_its_spread_and_nothing_of_other_formats():
    [line] = MEASURED.describe()
    assert line.startswith("int8 decodes 126 (119 to 131) and prefills 827 (800 to 840) tokens/s here")
    assert not any(word in line for word in ("would", "fp32", "int4", "w8a8", "as fast"))


def test_rates_are_the_median_and_the_middle_half_of_the_steps(tiny_artifact, monkeypatch):
    steps = [0.01, 0.02, 0.01, 0.01, 0.5]  # one was interrupted
    monkeypatch.setattr(advice, "_run", lambda backend, artifact: (steps, [0.064, 0.128, 0.064]))
    actual = advise(tiny_artifact)
    assert actual.decode == Rate(median=pytest.approx(100), low=pytest.approx(50), high=pytest.approx(100))
    assert actual.prefill.median == pytest.approx(1000)


def test_a_real_artifact_is_measured_and_its_record_read_back(tiny_artifact, tmp_path):
    folder = shutil.copytree(tiny_artifact.folder, tmp_path / "artifact")
    artifact = read_artifact(folder)
    actual = advise(artifact, threads=1)
    assert 0 < actual.decode.low <= actual.decode.median <= actual.decode.high
    record_advice(artifact, actual)
    timings = json.loads((folder / TIMINGS).read_text(encoding="utf-8"))
    assert timings["stages"], "what was there stays"
    assert advice_of(timings["advice"]) == actual
    read_artifact(folder, check_hashes=True)


def test_other_targets_are_not_measured(tiny_artifact):
    elsewhere = replace(tiny_artifact, manifest=replace(tiny_artifact.manifest, target="portable"))
    assert advise(elsewhere) is None


def test_inspect_shows_it_and_bears_a_damaged_record(tiny_artifact, tmp_path, capsys):
    folder = shutil.copytree(tiny_artifact.folder, tmp_path / "artifact")
    record_advice(read_artifact(folder), MEASURED)
    assert jisu.main(["inspect", str(folder)]) == 0
    assert "int8 decodes 126 (119 to 131)" in capsys.readouterr().out
    earlier = {"precision": "int8", "measured": {"decode": 1, "prefill": 2}, "others": {}}
    for damage in ("{", "[]", '{"advice": {"decode": 3}}', json.dumps({"advice": earlier})):
        (folder / TIMINGS).write_text(damage, encoding="utf-8")
        assert jisu.main(["inspect", str(folder)]) == 0
        assert "int8 decodes" not in capsys.readouterr().out


@pytest.mark.parametrize("more", [[], ["--no-advice"], ["--quiet"]])
def test_the_command_gives_it_unless_told_not_to(tiny_source, tmp_path, capsys, more):
    out = tmp_path / "out"
    assert jisu.main(["export", str(tiny_source), "--out", str(out), "--precision", "int8", *more]) == 0
    assert ("int8 decodes" in capsys.readouterr().err) is (more == [])
    assert ("advice" in json.loads((out / TIMINGS).read_text(encoding="utf-8"))) is (more == [])


def test_what_takes_more_memory_than_the_export_is_not_measured(tiny_artifact, capsys, monkeypatch):
    from jisu.exporter.commands import export as command
    from jisu.exporter.estimates import advice as module

    measured: list[object] = []
    monkeypatch.setattr(module, "advise", measured.append)
    monkeypatch.setattr("jisu.exporter.gate.open_candidate.opened_size", lambda artifact: 6_000_000_000)
    for limit in (None, 8_000_000_000):
        command._advise(tiny_artifact, limit)
        assert "Its speed was not measured, which takes 6.0 GB" in capsys.readouterr().err
    assert measured == []
    command._advise(tiny_artifact, 13_000_000_000)
    assert measured == [tiny_artifact]
    assert capsys.readouterr().err == ""
