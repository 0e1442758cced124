from __future__ import annotations

import json
import shutil
from dataclasses import replace

import pytest

import jisu
from jisu.exporter.contract.artifact import TIMINGS, read_artifact
from jisu.exporter.estimates import advice
from jisu.exporter.estimates.advice import Advice, Rates, advice_of, advise, record_advice
from jisu.exporter.estimates.matmul_speed import Speed


def said(precision, own, **others):
    rates = {name.replace("_", "-"): Rates(decode=pair[0], prefill=pair[1]) for name, pair in others.items()}
    return Advice(precision=precision, measured=Rates(decode=own[0], prefill=own[1]), others=rates).describe()


def test_the_gain_over_fp32_is_stated_in_both():
    lines = said("int8", (156, 1800), fp32=(53.8, 1286))
    assert lines == ["int8 decodes 2.9x as fast as fp32 here and prefills 1.4x as fast (156 and 1800 tokens/s)."]


def test_a_format_that_loses_to_a_more_faithful_one_is_told_which():
    lines = said("int8", (50, 400), fp32=(60, 800))
    assert "fp32, which is closer to the source, is no slower" in lines[1]
    assert "decode 1.2x and prefill 2.0x as fast" in lines[1]
    assert "Use --precision fp32" in lines[1]


def test_one_loss_in_one_of_the_two_is_no_reason_to_change():
    assert len(said("int8", (150, 400), fp32=(60, 800))) == 1
    assert "Use --precision" not in " ".join(said("int4", (100, 500), fp32=(20, 400), int8=(90, 900)))


def test_noise_is_no_gain():
    assert len(said("int8", (100, 1000), fp32=(50, 700), int4=(105, 1050))) == 1


def test_a_less_faithful_format_is_never_advised():
    lines = said("fp32", (50, 500), int8=(100, 1000))
    assert "Use --precision" not in " ".join(lines)


GRID = {"format": {"bits": 4, "block_size": 32, "sums": True}}
BYTES = {"format": {"bits": 8, "block_size": 64, "symmetric": True}}
FOUR_BITS = {"format": {"bits": 4, "block_size": 32, "symmetric": False}}


def test_a_kept_grid_is_closer_to_the_source_than_int8_matmuls_and_rounding_is_not():
    rates = {name: Rates(decode=120, prefill=900) for name in ("w8a8-dynamic", "int8")}

    def said_of(**kept):
        return " ".join(
            Advice(precision="int4", measured=Rates(decode=100, prefill=500), others=rates, **kept).describe()
        )

    assert "w8a8-dynamic, which is closer to the source" in said_of()
    assert "int8, which is closer to the source" in said_of(keeps_grid=True)
    kept = Advice(precision="int4", measured=rates["int8"], others={}, keeps_grid=True)
    assert advice_of(json.loads(json.dumps(kept.to_dict()))) == kept


@pytest.mark.parametrize(
    ("formats", "expected"),
    [([GRID, BYTES], True), ([GRID, FOUR_BITS], False), ([FOUR_BITS, BYTES], False), ([BYTES], False), ([], False)],
)
def test_a_manifest_says_whether_all_few_bits_are_the_checkpoints(tiny_artifact, monkeypatch, formats, expected):
    monkeypatch.setattr(advice, "_run", lambda backend, artifact: (0.010, 0.064))
    monkeypatch.setattr(advice, "measure_products", lambda products, threads: Speed(decode=0.002, prefill=0.008))
    manifest = replace(tiny_artifact.manifest, quantization={"formats": [*formats, {"format": None}]})
    assert advise(replace(tiny_artifact, manifest=manifest)).keeps_grid is expected


def test_other_products_take_the_place_of_the_artifacts_own(tiny_artifact, monkeypatch):
    monkeypatch.setattr(advice, "_run", lambda backend, artifact: (0.010, 0.064))
    speeds = {"MatMul": Speed(decode=0.004, prefill=0.032), "MatMulNBits": Speed(decode=0.001, prefill=0.016)}
    monkeypatch.setattr(
        advice,
        "measure_products",
        lambda products, threads: speeds.get(products[0].kind.operator, Speed(decode=0.002, prefill=0.008)),
    )
    found = advise(tiny_artifact)
    assert found.measured == Rates(decode=pytest.approx(100), prefill=pytest.approx(1000))
    assert found.others["int8"].decode == pytest.approx(1 / 0.007)
    assert found.others["int8"].prefill == pytest.approx(64 / 0.048)
    assert "fp32" not in found.others


def test_a_real_artifact_is_measured_and_its_record_read_back(tiny_artifact, tmp_path):
    folder = shutil.copytree(tiny_artifact.folder, tmp_path / "artifact")
    artifact = read_artifact(folder)
    found = advise(artifact, threads=1)
    assert found.measured.decode > 0
    assert set(found.others) == {"int8", "int4", "w8a8-dynamic"}
    record_advice(artifact, found)
    timings = json.loads((folder / TIMINGS).read_text(encoding="utf-8"))
    assert timings["stages"], "what was there stays"
    assert advice_of(timings["advice"]) == found
    read_artifact(folder, check_hashes=True)


def test_other_targets_are_not_measured(tiny_artifact):
    elsewhere = replace(tiny_artifact, manifest=replace(tiny_artifact.manifest, target="portable"))
    assert advise(elsewhere) is None


def test_inspect_shows_it_and_bears_a_damaged_record(tiny_artifact, tmp_path, capsys):
    folder = shutil.copytree(tiny_artifact.folder, tmp_path / "artifact")
    record_advice(
        read_artifact(folder),
        Advice(precision="int8", measured=Rates(decode=10, prefill=20), others={"fp32": Rates(decode=5, prefill=10)}),
    )
    assert jisu.main(["inspect", str(folder)]) == 0
    assert "int8 decodes 2.0x as fast as fp32 here" in capsys.readouterr().out
    for damage in ("{", "[]", '{"advice": {"others": 3}}', '{"advice": {"precision": "x", "others": {}}}'):
        (folder / TIMINGS).write_text(damage, encoding="utf-8")
        assert jisu.main(["inspect", str(folder)]) == 0
        assert "as fast" not in capsys.readouterr().out


@pytest.mark.parametrize("more", [[], ["--no-advice"], ["--quiet"]])
def test_the_command_gives_it_unless_told_not_to(tiny_source, tmp_path, capsys, more):
    out = tmp_path / "out"
    assert jisu.main(["export", str(tiny_source), "--out", str(out), "--precision", "int8", *more]) == 0
    assert ("as fast as fp32 here" in capsys.readouterr().err) is (more == [])
    assert ("advice" in json.loads((out / TIMINGS).read_text(encoding="utf-8"))) is (more == [])
