from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu import main
from jisu.benchmarks.compare.matrix import check_build_place, export_artifact, matrix_contestants, read_matrix
from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.ray_tasks import run_here


def write(folder, text):
    path = folder / "matrix.toml"
    path.write_text(text)
    return path


def test_a_matrix_exports_what_is_missing_and_compares_everything(tiny, tmp_path, capsys):
    """fp32 is there already, int8 is over its budget: the rejected export is a row, and the other goes on."""
    build = tmp_path / "build"
    (build / "source").mkdir(parents=True)
    (build / "source" / "fp32").symlink_to(tiny.fp32)
    path = write(
        tmp_path,
        f'models = ["{tiny.source}"]\nprecisions = ["fp32", "int8"]\nbuild = "{build}"\n'
        '[options]\nint8 = ["--max-kl", "1e-12"]\n',
    )
    words = ["compare", "--matrix", path, "--out", tmp_path / "report", "--workloads", "short-chat", "--trials", "1"]
    assert main([str(word) for word in [*words, "--threads", "1", "--no-quality"]]) == 0
    rows = json.loads((tmp_path / "report" / "report.json").read_text())["rows"]
    assert [(row["name"], row["failure"] is None) for row in rows] == [("fp32 (ort-cpu)", True), ("int8", False)]
    assert "exit code 3" in rows[1]["failure"]
    assert "mean-kl" in rows[1]["failure"]
    assert not (tmp_path / "report" / "matrix-progress.jsonl").exists()
    assert "exporting" in capsys.readouterr().err


def test_what_was_compared_before_an_interruption_is_not_compared_again_and_counts(tmp_path, monkeypatch, capsys):
    path = write(tmp_path, f'models = ["org/one", "org/two"]\nprecisions = ["fp32"]\nbuild = "{tmp_path / "build"}"\n')
    words = ["compare", "--matrix", str(path), "--out", str(tmp_path)]
    measured = []

    def run_one(arguments, request, limits, baseline, *, junit, contestants):
        measured.append(request.out.name)
        if len(measured) == 2:
            raise KeyboardInterrupt
        request.out.mkdir(exist_ok=True)
        (request.out / "report.json").write_text("{}")
        return 4 if request.out.name == "one" else 0

    monkeypatch.setattr("jisu.benchmarks.commands.compare._run_one", run_one)
    monkeypatch.setattr("jisu.benchmarks.compare.matrix.matrix_contestants", lambda *args, **more: ([tmp_path], []))
    assert main(words) == 130
    assert main([*words, "--quiet"]) == 4  # of the first model
    assert measured == ["one", "two", "two"]
    assert not (tmp_path / "matrix-progress.jsonl").exists()
    # Other options begin anew.
    measured.clear()
    assert main(words) == 130
    assert main([*words, "--trials", "9"]) == 4
    assert measured == ["one", "two", "one", "two"]


def test_what_an_export_was_refused_for_is_the_error_and_not_the_hint_after_it(tmp_path):
    said = export_artifact("none", tmp_path / "out", "fp32", ["--no-such-option"])
    assert "error: unknown option --no-such-option" in str(said)
    assert "(exit code 2)" in str(said)


def test_a_build_folder_that_cannot_be_written_is_an_error():
    with pytest.raises(InputError, match="artifacts cannot be written into /dev/null/build"):
        check_build_place(Path("/dev/null/build"))


def test_folders_of_artifacts_are_named_for_model_and_precision(tiny, tmp_path):
    build = tmp_path / "build"
    (build / "source").mkdir(parents=True)
    for name in ("fp32", "int8"):
        (build / "source" / name).symlink_to(getattr(tiny, name))
    text = f'models = ["{tiny.source}"]\nprecisions = ["fp32", "int8"]\nbackends = ["ort-cpu", "torch"]\n'
    text += f'build = "{build}"\n'
    matrix = read_matrix(write(tmp_path, text))
    folders, contestants = matrix_contestants(matrix, str(tiny.source), threads=1, say=print, run=run_here)
    assert folders == [build / "source" / "fp32", build / "source" / "int8"]
    assert [item.name for item in contestants] == ["fp32 (ort-cpu)", "source (torch)", "int8 (ort-cpu)"]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("models = [", "cannot be read"),
        (
            "precision = ['int8']\nmodels = ['a']",
            "precision is unknown (did you mean precisions?); precisions is missing",
        ),
        ("models = 'a'\nprecisions = [1]", "models is no list of words; precisions is no list of words"),
        ("models = ['a']\nprecisions = ['int8']\noptions = {int4 = ['--keep']}", "options.int4 is for no precision"),
        (
            "models = ['a']\nprecisions = ['int8']\noptions = {int8 = ['--out=b', '--precision', 'int4']}",
            "options.int8 has --out=b, which the matrix gives itself; options.int8 has --precision",
        ),
        ("models = ['a']\nprecisions = ['int9']", "int9 is none of precisions, which are bf16, fp16"),
        ("models = ['a']\nprecisions = ['int8']\nbackends = ['ort-gpu']", "(did you mean ort-cpu?)"),
        ("models = ['x/a', 'y/a']\nprecisions = ['int8']", "have the same name"),
    ],
)
def test_everything_that_is_wrong_with_a_matrix_is_named(tmp_path, text, said):
    with pytest.raises(InputError) as actual:
        read_matrix(write(tmp_path, text))
    assert said in str(actual.value)


def test_artifacts_and_a_matrix_are_too_much(tmp_path, capsys):
    path = write(tmp_path, 'models = ["a"]\nprecisions = ["fp32"]\n')
    assert main(["compare", "build/fp32", "--matrix", str(path), "--out", str(tmp_path)]) == 2
    assert "--matrix already says what to compare" in capsys.readouterr().err


def test_several_models_have_a_report_a_baseline_and_peers_of_their_own(tiny, tmp_path, capsys):
    build = tmp_path / "build"
    for name in ("one", "two"):
        (tmp_path / name).symlink_to(tiny.source)
        (build / name).mkdir(parents=True)
        (build / name / "int8").symlink_to(tiny.int8)
    (tmp_path / "peers" / "one").mkdir(parents=True)
    (tmp_path / "peers" / "one" / "genai-int4").symlink_to(tiny.int8)
    (tmp_path / "peers" / "two").mkdir()
    text = f'models = ["{tmp_path / "one"}", "{tmp_path / "two"}"]\nprecisions = ["int8"]\nbuild = "{build}"\n'
    words = ["compare", "--matrix", write(tmp_path, text), "--workloads", "short-chat", "--threads", "1"]
    words += ["--trials", "1", "--no-quality"]
    peers = ["--peers", tmp_path / "peers", "--peers-python", "/nowhere/python"]
    first = tmp_path / "first"
    assert main([str(word) for word in [*words, *peers, "--out", first]]) == 0
    names = {
        name: [row["name"] for row in json.loads((first / name / "report.json").read_text())["rows"]]
        for name in ("one", "two")
    }
    assert names == {"one": ["int8 (ort-cpu)", "genai int4"], "two": ["int8 (ort-cpu)"]}
    assert "llama.cpp Q8_0 was not compared: there is no python" in capsys.readouterr().out
    # One of the baselines had a smaller artifact.
    smaller = json.loads((first / "two" / "report.json").read_text())
    smaller["rows"][0]["size_bytes"] //= 2
    (first / "two" / "report.json").write_text(json.dumps(smaller))
    limits = ["--baseline", first, "--max-size-growth", "10%", "--max-slowdown", "1000", "--junit", tmp_path / "j.xml"]
    assert main([str(word) for word in [*words, *limits, "--out", tmp_path / "second"]]) == 4
    assert "size" in (tmp_path / "j-two.xml").read_text()
    assert "failure" in (tmp_path / "j-two.xml").read_text()
    assert "<failure" not in (tmp_path / "j-one.xml").read_text()
