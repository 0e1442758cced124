"""What people install: the wheel and the sdist, built as they are published and used where there is no clone."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy
import pytest

from tests.support.models import write_tiny

ROOT = Path(__file__).parents[2]
LEFT_OUT = shutil.ignore_patterns(".venv*", ".git", "build", "dist", "*.egg-info", "__pycache__", ".*_cache", ".cache")
PROGRAM = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUILD = (
    "import sys; from setuptools import build_meta as build; folder = sys.argv[1]; "
    "build.build_sdist(folder); build.build_wheel(folder)"
)


def run(*words: object, folder: Path, fine: bool = True) -> subprocess.CompletedProcess[str]:
    environment = {key: value for key, value in os.environ.items() if key != "PYTHONPATH"}
    done = subprocess.run(
        [str(word) for word in words], cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    assert not fine or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with the sdist and the wheel."""
    folder = tmp_path_factory.mktemp("dist")
    copy = folder / "copy"
    shutil.copytree(ROOT, copy, symlinks=True, ignore=LEFT_OUT)
    run(sys.executable, "-c", BUILD, folder, folder=copy)
    return folder


@pytest.fixture(scope="module")
def python(built: Path) -> Path:
    """The interpreter of an environment in which nothing but the wheel is installed, with the command beside it."""
    folder = built / "environment"
    run(sys.executable, "-m", "venv", "--without-pip", folder, folder=built)
    python = folder / "bin" / "python"
    pip = [sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index"]
    run(*pip, *built.glob("*.whl"), folder=built)
    return python


@pytest.fixture
def with_libraries(python: Path) -> Path:
    """The same with the libraries of this environment; its own jisu is found first, and no clone at all."""
    (site,) = (python.parent.parent / "lib").glob("python*/site-packages")
    libraries = [path for path in sys.path if path.endswith("site-packages")]
    (site / "libraries.pth").write_text("\n".join(libraries) + "\n", encoding="utf-8")
    return python


def test_the_wheel_installs_one_package_with_types_and_all_its_files(built: Path) -> None:
    (wheel,) = built.glob("*.whl")
    names = zipfile.ZipFile(wheel).namelist()
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"jisu"}
    packages = ("exporter", "runtimes", "calibration", "benchmarks")
    code = {path.relative_to(ROOT).as_posix() for one in packages for path in (ROOT / one).rglob("*.py")}
    code = {f"jisu/{name}" for name in code}
    data = {"jisu/py.typed", "jisu/exporter/reports/families.json", "jisu/calibration/text/prompts.jsonl"}
    data |= {
        f"jisu/exporter/gate/held_out_texts/{path.name}" for path in (ROOT / "exporter/gate/held_out_texts").iterdir()
    }
    data |= {f"jisu/benchmarks/report/{path.name}" for path in (ROOT / "benchmarks/report").glob("*.j2")}
    assert (code | data) - set(names) == set()


def test_the_sdist_builds_the_same_wheel(built: Path, tmp_path: Path) -> None:
    (wheel,), (sdist,) = built.glob("*.whl"), built.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extractall(tmp_path, filter="data")
    (unpacked,) = tmp_path.iterdir()
    run(sys.executable, "-c", BUILD, tmp_path, folder=unpacked)
    (again,) = tmp_path.glob("*.whl")
    assert sorted(zipfile.ZipFile(again).namelist()) == sorted(zipfile.ZipFile(wheel).namelist())


def test_a_program_of_a_user_is_typed(python: Path, tmp_path: Path) -> None:
    programs = PROGRAM.findall((ROOT / "docs" / "python.md").read_text(encoding="utf-8"))
    for number, program in enumerate(programs):
        (tmp_path / f"program_{number}.py").write_text(program, encoding="utf-8")
    wrong = (
        "import jisu\n\nwith jisu.load('x') as engine:\n    print(engine.generate('hi').txet)\n    engine.stream(7)\n"
    )
    (tmp_path / "wrong.py").write_text(wrong, encoding="utf-8")
    (site,) = (python.parent.parent / "lib").glob("python*/site-packages")
    (site / "numpy").symlink_to(Path(numpy.__file__).parent)  # whose types the programs use
    words = ["-m", "mypy", "--strict", "--config-file=", "--python-executable", python, *sorted(tmp_path.glob("*.py"))]
    done = run(sys.executable, *words, folder=tmp_path, fine=False)
    errors = [line for line in done.stdout.splitlines() if ": error:" in line]
    assert len(programs) > 5
    assert [line.split(":")[0] for line in errors] == ["wrong.py", "wrong.py"], done.stdout


def test_an_empty_environment_exports_and_generates(with_libraries: Path, tmp_path: Path) -> None:
    from transformers import LlamaConfig

    jisu = with_libraries.parent / "jisu"
    gone = run(with_libraries, "-c", "import exporter", folder=tmp_path, fine=False)
    assert "No module named 'exporter'" in gone.stderr
    where = run(with_libraries, "-c", "import jisu; print(jisu.__file__, jisu.__version__)", folder=tmp_path).stdout
    assert str(with_libraries.parents[1]) in where
    assert "ort-cpu" in run(jisu, "doctor", folder=tmp_path).stdout
    config = LlamaConfig(
        vocab_size=384, hidden_size=32, intermediate_size=64, num_hidden_layers=2, num_attention_heads=2,
        num_key_value_heads=1, max_position_embeddings=512, bos_token_id=0, eos_token_id=1,
    )  # fmt: skip
    run(
        jisu, "export", write_tiny(tmp_path / "tiny", config), "--out", tmp_path / "out", "--no-advice", folder=tmp_path
    )
    answer = run(
        jisu, "generate", tmp_path / "out", "Hello", "--max-new-tokens", "4", "--quiet", folder=tmp_path
    ).stdout
    assert answer.endswith("\n")
