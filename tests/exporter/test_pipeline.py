from __future__ import annotations

import contextlib
import errno
import json
import os
import re
import shutil
import signal
from collections import namedtuple
from pathlib import Path

import numpy as np
import pytest

import jisu
from jisu.exporter import pipeline
from jisu.exporter.contract.artifact import read_artifact
from jisu.exporter.contract.errors import GateRejectedError, InputError
from jisu.exporter.contract.source_place import read_place
from jisu.exporter.gate import GateResult
from jisu.exporter.gate.result import Check
from jisu.exporter.pipeline import export
from jisu.exporter.reports.describe import describe_artifact
from tests.exporter.passes.draft import copied
from tests.support.models import write_tiny_llama

PROMPTS = ["The capital of France is", "你好", "def add(a, b):"]


@pytest.fixture
def traced(monkeypatch, tiny_traced):
    """Spare each export the seconds of its trace."""
    monkeypatch.setattr(pipeline, "trace_source", lambda source, **__: copied(tiny_traced))


@pytest.fixture
def gate_says(monkeypatch):
    def install(passed):
        check = Check(name="prefill-2", passed=passed, value=1.0, limit=0.1, unit="", detail="Made up by a test.")
        result = GateResult(checks=(check,), reference="none")
        monkeypatch.setattr(pipeline, "prove", lambda artifact, source, **options: result)

    return install


def below(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*"))


def test_the_artifact_generates_the_tokens_of_the_source(tiny_source, tiny_artifact):
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    from jisu.runtimes import load

    model = AutoModelForCausalLM.from_pretrained(tiny_source, dtype=torch.float32).eval()
    tokenizer = AutoTokenizer.from_pretrained(tiny_source)
    with load(tiny_artifact.folder) as engine:
        for prompt in PROMPTS:
            ids = tokenizer(prompt, return_tensors="pt").input_ids
            with torch.inference_mode():
                whole = model.generate(ids, max_new_tokens=24, do_sample=False, pad_token_id=2)
            expected = [token for token in whole[0, ids.shape[1] :].tolist() if token != 1]
            actual = engine.generate(prompt, chat=False, max_new_tokens=24, temperature=0)
            assert [token for token in actual.token_ids if token != 1] == expected


def test_the_folder_holds_what_the_manifest_says(tiny_artifact):
    read_artifact(tiny_artifact.folder, check_hashes=True)
    assert set(below(tiny_artifact.folder)) == {*tiny_artifact.manifest.files, "manifest.json", "timings.json"}
    assert {"model.onnx", "model.onnx.data", "tokenizer.json", "genai_config.json"} <= set(tiny_artifact.manifest.files)


def test_the_manifest_records_source_recipe_gate_and_versions(tiny_source, tiny_artifact):
    manifest = tiny_artifact.manifest
    assert manifest.source["kind"] == "hf-folder"
    assert manifest.source["name"] == tiny_source.name
    assert read_place(tiny_artifact.folder).checkpoint == str(tiny_source)
    assert "model.safetensors" in manifest.source["files"]
    assert {"pass": "lower_gqa", "count": 3, "candidates": 3} in manifest.recipe
    assert manifest.gate["accepted"] is True
    assert {"torch", "onnxruntime", "transformers"} <= set(manifest.versions)


def test_the_account_of_the_checkpoint_is_kept_and_shown(tiny_artifact):
    account = tiny_artifact.manifest.source["account"]
    assert account["counts"]["tensor"] == {"used": 30}
    assert account["counts"]["config"].keys() == {"used", "harmless"}
    assert account["remarks"] == []
    text = describe_artifact(tiny_artifact)
    assert "Account of the checkpoint" in text
    assert re.search(r"tensor +30 used", text)


def test_two_exports_give_the_same_bytes(tiny_source, tiny_artifact, tmp_path):
    second = export(tiny_source, tmp_path / "second")
    assert below(second.folder) == below(tiny_artifact.folder)
    # The gate's figures are measured, and the last digits of sums taken by several threads vary.
    records = [json.loads((item.folder / "manifest.json").read_text()) for item in (second, tiny_artifact)]
    for record in records:
        for check in record["gate"]["checks"]:
            check["value"] = check["detail"] = None
    assert records[0] == records[1]
    for name in below(second.folder):
        if name not in ("timings.json", "manifest.json"):
            assert (second.folder / name).read_bytes() == (tiny_artifact.folder / name).read_bytes(), name


def test_many_exports_of_one_trace_give_the_same_bytes(traced, gate_says, tiny_source, tmp_path):
    gate_says(True)
    graphs = {(export(tiny_source, tmp_path / f"{n}").folder / "model.onnx").read_bytes() for n in range(6)}
    assert len(graphs) == 1


@pytest.mark.parametrize("precision", ["fp16", "int8", "int4", "w8a8-dynamic", "w8a8"])
def test_two_exports_in_a_reduced_precision_give_the_same_bytes(traced, gate_says, tiny_source, tmp_path, precision):
    gate_says(True)
    text = tmp_path / "text.txt"
    text.write_text("".join(f"Line {number} of a text that nobody else has. " for number in range(400)))
    calibration = {"calibration": text} if precision in ("int4", "w8a8") else {}
    first, second = (export(tiny_source, tmp_path / name, precision=precision, **calibration) for name in "ab")
    assert below(first.folder) == below(second.folder)
    # Seconds are no part of what was made.
    for name in set(below(first.folder)) - {"timings.json"}:
        assert (first.folder / name).read_bytes() == (second.folder / name).read_bytes(), name
    may_differ = first.manifest.quantization["may_differ_elsewhere"]
    assert ("scales and codes" in " ".join(may_differ)) is (precision != "fp16")


def test_nothing_of_this_machine_is_in_the_graph(tiny_source, tiny_artifact):
    content = (tiny_artifact.folder / "model.onnx").read_bytes()
    for word in (str(tiny_source.parent), os.path.expanduser("~"), "site-packages", ".py"):  # noqa: PTH111
        assert word.encode() not in content, word


def test_no_path_of_this_machine_is_in_what_travels(traced, gate_says, tiny_source, tmp_path):
    gate_says(True)
    (tmp_path / "calibration.txt").write_text("All the world's a stage, and all the men merely players. " * 400)
    (tmp_path / "held out.txt").write_text("It was the best of times, it was the worst of times, it was an age. " * 400)
    texts = {"calibration": tmp_path / "calibration.txt", "evaluation": tmp_path / "held out.txt"}
    export(tiny_source, tmp_path / "out", precision="int4", **texts)
    for path in (tmp_path / "out").iterdir():
        if path.name != "timings.json":
            for place in (tmp_path, tiny_source.parent, Path.home(), Path.cwd()):
                assert str(place).encode() not in path.read_bytes(), path.name


def test_the_portable_target_is_verified_too(traced, tiny_source, tmp_path):
    artifact = export(tiny_source, tmp_path / "out", target="portable")
    assert artifact.manifest.signature.has_input("past_length")
    assert not (artifact.folder / "genai_config.json").exists()


def test_an_existing_folder_is_refused_and_left_alone(tiny_source, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / "mine").write_text("kept")
    with pytest.raises(InputError, match="already exists"):
        export(tiny_source, out)
    assert below(tmp_path) == ["out", "out/mine"]


@pytest.mark.parametrize("accepted", [True, False])
def test_an_earlier_artifact_is_replaced_only_by_an_accepted_one(traced, gate_says, tiny_source, tmp_path, accepted):
    out = tmp_path / "out"
    gate_says(True)
    export(tiny_source, out, precision="int8")
    gate_says(accepted)
    with contextlib.suppress(GateRejectedError):
        export(tiny_source, out, overwrite=True)
    assert read_artifact(out).manifest.precision == ("fp32" if accepted else "int8")


def test_a_wrong_recipe_is_refused_before_the_checkpoint_is_read(tmp_path):
    with pytest.raises(InputError, match="no recipe"):
        export(tmp_path / "absent", tmp_path / "out", target="tensorrt", precision="w8a8-dynamic")
    with pytest.raises(InputError, match="Did you mean int8"):
        export(tmp_path / "absent", tmp_path / "out", precision="int1")


@pytest.mark.parametrize("error", [KeyboardInterrupt, RuntimeError, MemoryError])
@pytest.mark.parametrize("step", ["_write", "prove", "publish"])
def test_an_interrupted_export_leaves_nothing(traced, monkeypatch, gate_says, tiny_source, tmp_path, step, error):
    def interrupted(*arguments, **options):
        raise error

    gate_says(True)
    monkeypatch.setattr(pipeline, step, interrupted)
    with pytest.raises(error):
        export(tiny_source, tmp_path / "deep" / "out")
    assert below(tmp_path) == []


def test_a_disk_too_small_is_refused_before_tracing(monkeypatch, tiny_source, tmp_path):
    usage = namedtuple("usage", "total used free")(1, 1, 1000)
    monkeypatch.setattr(shutil, "disk_usage", lambda place: usage)
    monkeypatch.setattr(pipeline, "trace_source", lambda source, **__: pytest.fail("it was traced"))
    with pytest.raises(InputError, match="too little free space"):
        export(tiny_source, tmp_path / "out")
    assert below(tmp_path) == []


def test_a_disk_that_fills_up_while_writing_leaves_nothing(traced, monkeypatch, tiny_source, tmp_path):
    import onnx_ir as ir

    def full(model, path, **options):
        path.write_bytes(b"half of it")
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(ir, "save", full)
    with pytest.raises(InputError, match="No space left on device"):
        export(tiny_source, tmp_path / "out")
    assert below(tmp_path) == []


def test_a_disk_that_fills_up_below_the_tokenizer_leaves_nothing(traced, monkeypatch, tiny_source, tmp_path):
    from jisu.exporter.sources.source import Source

    def full(source, folder):
        raise Exception("No space left on device (os error 28)")

    monkeypatch.setattr(Source, "save_tokenizer", full)
    with pytest.raises(InputError, match="No space left on device"):
        export(tiny_source, tmp_path / "out")
    assert below(tmp_path) == []


def test_a_bug_while_writing_stays_a_bug(traced, monkeypatch, tiny_source, tmp_path):
    from jisu.exporter.sources.source import Source

    def broken(source, folder):
        raise Exception("index out of range")

    monkeypatch.setattr(Source, "save_tokenizer", broken)
    with pytest.raises(Exception, match="index out of range") as caught:
        export(tiny_source, tmp_path / "out")
    assert not isinstance(caught.value, InputError)


def test_a_terminated_export_leaves_nothing(traced, monkeypatch, tiny_source, tmp_path):
    before = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(pipeline, "prove", lambda *arguments, **options: os.kill(os.getpid(), signal.SIGTERM))
    assert jisu.main(["export", str(tiny_source), "--out", str(tmp_path / "out"), "--quiet"]) == 143
    assert below(tmp_path) == []
    assert signal.getsignal(signal.SIGTERM) is before


def test_the_next_export_removes_what_a_killed_one_left(traced, gate_says, tiny_source, tmp_path, capsys):
    gate_says(True)
    stale = tmp_path / ".out.abc.partial"
    stale.mkdir()
    (stale / "model.onnx").write_text("half")
    assert jisu.main(["export", str(tiny_source), "--out", str(tmp_path / "out")]) == 0
    assert f"Removed {stale}" in capsys.readouterr().err
    assert [path.name for path in tmp_path.iterdir()] == ["out"]


def test_a_disk_that_fills_up_while_publishing_leaves_nothing(traced, monkeypatch, gate_says, tiny_source, tmp_path):
    def full(staged, out, **options):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    gate_says(True)
    monkeypatch.setattr(pipeline, "publish", full)
    with pytest.raises(InputError, match="No space left on device"):
        export(tiny_source, tmp_path / "out")
    assert below(tmp_path) == []


def test_a_rejected_export_lies_beside_the_untouched_target(traced, gate_says, tiny_source, tmp_path):
    from jisu.runtimes import load

    gate_says(False)
    with pytest.raises(GateRejectedError, match="first prefill-2: Made up by a test") as caught:
        export(tiny_source, tmp_path / "out")
    rejected = tmp_path / "out.rejected"
    assert str(rejected) in str(caught.value)
    assert [path.name for path in tmp_path.iterdir()] == ["out.rejected"]
    assert {"rejected.json", "model.onnx", "timings.json"} <= set(below(rejected))
    assert not (rejected / "manifest.json").exists()
    assert json.loads((rejected / "rejected.json").read_text())["gate"]["accepted"] is False
    with pytest.raises(InputError, match="not an artifact"):
        load(rejected)


def test_a_second_rejection_replaces_the_first(traced, gate_says, tiny_source, tmp_path):
    gate_says(False)
    for _ in range(2):
        with pytest.raises(GateRejectedError):
            export(tiny_source, tmp_path / "out")
        (tmp_path / "out.rejected" / "mark").write_text("of this one")
        assert [path.name for path in tmp_path.iterdir()] == ["out.rejected"]
    with pytest.raises(GateRejectedError):
        export(tiny_source, tmp_path / "out")
    assert not (tmp_path / "out.rejected" / "mark").exists()


def test_a_folder_that_is_not_ours_is_never_replaced_by_a_rejection(traced, gate_says, tiny_source, tmp_path):
    gate_says(False)
    (tmp_path / "out.rejected").mkdir()
    (tmp_path / "out.rejected" / "mine").write_text("kept")
    with pytest.raises(GateRejectedError) as caught:
        export(tiny_source, tmp_path / "out")
    assert (tmp_path / "out.rejected" / "mine").read_text() == "kept"
    (other,) = (path for path in tmp_path.iterdir() if path.name != "out.rejected")
    assert str(other) in str(caught.value)
    assert (other / "rejected.json").is_file()


def test_a_rejection_after_success_leaves_the_first_artifact_alone(traced, gate_says, tiny_source, tmp_path):
    gate_says(True)
    export(tiny_source, tmp_path / "out")
    with pytest.raises(InputError, match="already exists"):
        export(tiny_source, tmp_path / "out")
    read_artifact(tmp_path / "out", check_hashes=True)


def test_a_local_source_of_a_hub_artifact_needs_no_revision(tiny_artifact, tiny_source, tmp_path):
    from jisu.exporter.sources.recorded_source import load_recorded_source

    folder = tmp_path / "copy"
    shutil.copytree(tiny_artifact.folder, folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["source"] |= {"kind": "hf-hub", "name": "org/name", "revision": "abc"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    assert load_recorded_source(read_artifact(folder), tiny_source, same_files=True).model.layers == 3


def test_both_backends_give_the_same_tokens(tiny_artifact):
    from jisu.runtimes import load

    actual = []
    for backend in ("ort-cpu", "torch"):
        with load(tiny_artifact.folder, backend=backend) as engine:
            actual.append(engine.generate(PROMPTS[0], max_new_tokens=12, temperature=0).token_ids)
    assert np.array_equal(*actual)


def test_the_command_publishes_and_says_so(traced, tiny_source, tmp_path, capsys):
    assert jisu.main(["export", str(tiny_source), "--out", str(tmp_path / "out")]) == 0
    assert "accepted after" in capsys.readouterr().out
    assert jisu.main(["verify", str(tmp_path / "out")]) == 0
    assert "accepted: All" in capsys.readouterr().out


def test_the_command_says_nothing_when_asked_to(traced, gate_says, tiny_source, tmp_path, capsys):
    gate_says(True)
    assert jisu.main(["export", str(tiny_source), "--out", str(tmp_path / "out"), "--quiet"]) == 0
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize("words", [["--precision", "int1"], ["--target", "toaster"], ["--revision", "abc"]])
def test_bad_options_exit_with_2_and_write_nothing(tiny_source, tmp_path, capsys, words):
    assert jisu.main(["export", str(tiny_source), "--out", str(tmp_path / "out"), *words]) == 2
    assert "Traceback" not in capsys.readouterr().err
    assert below(tmp_path) == []


def test_a_rejection_exits_with_3(traced, gate_says, tiny_source, tmp_path, capsys):
    gate_says(False)
    assert jisu.main(["export", str(tiny_source), "--out", str(tmp_path / "out"), "--quiet"]) == 3
    assert "Made up by a test" in capsys.readouterr().err


def test_an_export_that_is_estimated_to_need_more_memory_is_refused_before_it_begins(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "source")
    with pytest.raises(InputError, match=r"needs more memory than --max-memory allows .*an estimate of 0\.\d GB"):
        jisu.export(folder, tmp_path / "out", max_memory=100_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_a_dry_run_shows_what_is_needed_and_refuses_what_the_export_would(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    command = ["export", str(write_tiny_llama(tmp_path / "source")), "--out", str(tmp_path / "out"), "--dry-run"]
    assert jisu.main([*command, "--max-memory", "100MB"]) == 2
    shown = capsys.readouterr()
    assert "of memory at the peak" in shown.out
    assert "needs more memory than --max-memory allows" in shown.err
    assert jisu.main([*command, "--max-memory", "100GB"]) == 0


def test_an_export_that_holds_more_than_was_estimated_is_ended(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_tiny_llama(tmp_path / "source")
    monkeypatch.setattr(pipeline, "require_memory", lambda request: None)
    with pytest.raises(InputError, match="exceeded its memory limit"):
        jisu.export(folder, tmp_path / "out", max_memory=100_000_000)
    assert [path.name for path in tmp_path.iterdir()] == ["source"]


def test_an_export_within_its_limit_is_made(tmp_path: Path) -> None:
    assert jisu.export(write_tiny_llama(tmp_path / "source"), tmp_path / "out", max_memory=1 << 40).size
