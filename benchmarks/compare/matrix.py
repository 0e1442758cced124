"""Models x precisions x backends out of one TOML file: exports what is missing, and names who is compared.

What is exported already is taken as it is, so that an interrupted matrix resumes; an export that fails is a row that
says why.
"""

from __future__ import annotations

import difflib
import importlib
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from jisu.benchmarks.compare.contestants import Contestant, artifact_contestants
from jisu.benchmarks.compare.rounds import Say
from jisu.benchmarks.compare.run import BACKEND
from jisu.exporter.contract.artifact import MANIFEST
from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.ray_tasks import Task
from jisu.exporter.precision.precision import PRECISIONS
from jisu.runtimes.backends.registry import BACKENDS

# What a matrix says in its own words; among the options it would make an artifact where nobody looks for it.
_GIVEN = ("--out", "--precision")


@dataclass(frozen=True, kw_only=True)
class Matrix:
    """What the file says: checkpoints, precisions, backends, where artifacts go, and further options of the export.

    ``options`` has by precision the words that `jisu export` gets besides, such as ``["--block-size", "64"]``; those
    under ``"all"`` go to every export.
    """

    models: tuple[str, ...]
    precisions: tuple[str, ...]
    backends: tuple[str, ...] = (BACKEND,)
    build: Path = Path("build/matrix")
    options: dict[str, list[str]] = field(default_factory=dict)

    @property
    def labels(self) -> dict[str, str]:
        """A folder's name for each model: the last part of its path or id, without the ending of a file."""
        return {model: Path(model).stem if Path(model).is_file() else Path(model).name for model in self.models}


def read_matrix(path: Path) -> Matrix:
    """Read a matrix; raises InputError that names everything that is wrong with it."""
    toml: Any = importlib.import_module("tomllib")  # in the standard library from 3.11 on
    try:
        data = toml.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(
            f"The matrix {path} cannot be read",
            received=error,
            allowed='TOML such as: models = ["MODEL"] and precisions = ["fp32", "int8"]',
            fix="Correct the file.",
        ) from error
    known = [item.name for item in fields(Matrix)]
    problems = []
    for key in data:
        if key not in known:
            problems.append(f"{key} is unknown{_nearest(key, known)}")
    for key in ("models", "precisions", "backends"):
        if key in data and not (_are_words(data[key]) and data[key]):
            problems.append(f"{key} is no list of words")
        if key not in data and key != "backends":
            problems.append(f"{key} is missing")
    for key, names in (("precisions", PRECISIONS), ("backends", BACKENDS)):
        if _are_words(data.get(key)):
            problems += [_unknown(key, word, names) for word in data[key] if word not in names]
    if not isinstance(data.get("build", ""), str):
        problems.append("build is no path")
    options = data.get("options", {})
    if not isinstance(options, dict) or not all(_are_words(words) for words in options.values()):
        problems.append("options is no table of lists of words")
    else:
        if isinstance(data.get("precisions"), list):
            problems += [
                f"options.{name} is for no precision" for name in options if name not in ("all", *data["precisions"])
            ]
        problems += [
            f"options.{name} has {word}, which the matrix gives itself"
            for name, words in options.items()
            for word in words
            if word.split("=")[0] in _GIVEN
        ]
    if problems:
        raise InputError(
            f"{path} is not a valid matrix",
            received="; ".join(problems),
            allowed=", ".join(known),
            fix="Correct these keys.",
        )
    settings: dict[str, Any] = {key: tuple(data[key]) for key in ("models", "precisions", "backends") if key in data}
    if "build" in data:
        settings["build"] = Path(data["build"])
    matrix = Matrix(**settings, options=options)
    if len(set(matrix.labels.values())) < len(matrix.models):
        raise InputError(
            f"Two models of {path} have the same name",
            received=", ".join(matrix.models),
            allowed="models whose folders or files have different names",
            fix="Rename one of them.",
        )
    return matrix


def check_build_place(folder: Path) -> None:
    """Make the folder of the artifacts and see that it can be written to, before anything is exported."""
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise InputError(
            f"The matrix's artifacts cannot be written into {folder}",
            received=error.strerror or error,
            allowed="a folder that can be written to",
            fix="Name another one as build in the matrix.",
        ) from error


def matrix_contestants(
    matrix: Matrix, model: str, *, threads: int, say: Say, run: Callable[[list[Task]], Iterator[tuple[int, Any]]]
) -> tuple[list[Path], list[Contestant]]:
    """Export what is missing of one model; returns the folders, and the contestants with those that failed.

    Args:
        run: runs the exports, `exporter.jobs.ray_tasks.run_here` or `exporter.jobs.ray_tasks.run_tasks`.
    """
    folders = {precision: matrix.build / matrix.labels[model] / precision for precision in matrix.precisions}
    missing = [precision for precision, folder in folders.items() if not (folder / MANIFEST).is_file()]
    tasks = [_export_task(matrix, model, precision, folders[precision], threads=threads) for precision in missing]
    problems: dict[str, str] = {}
    there = [precision for precision in matrix.precisions if precision not in missing]
    if there:
        say(f"{model} in {', '.join(there)} is in {matrix.build} already")
    if tasks:
        say(f"exporting {model} in {', '.join(missing)}")
    for index, problem in run(tasks):
        if problem is not None:
            problems[missing[index]] = f"export: {problem}"
            say(f"{model} in {missing[index]} could not be exported: {problem}")
    source = model if Path(model).exists() else None
    made = [folder for precision, folder in folders.items() if precision not in problems]
    measurable = artifact_contestants(made, matrix.backends, threads=threads, source=source)
    failed = [
        Contestant(name=precision, command=(), problem=problem, facts=_failed_facts(folders[precision]))
        for precision, problem in problems.items()
    ]
    return [*made, *(folders[precision] for precision in problems)], [*measurable, *failed]


def _export_task(matrix: Matrix, model: str, precision: str, folder: Path, *, threads: int) -> Task:
    name = str(Path(model).resolve()) if Path(model).exists() else model
    options = [*matrix.options.get("all", ()), *matrix.options.get(precision, ())]
    return Task(
        name=f"export {matrix.labels[model]} in {precision}",
        function=export_artifact,
        arguments=(name, folder.resolve(), precision, options),
        cores=threads,
    )


def export_artifact(model: str, folder: Path, precision: str, options: Sequence[str]) -> str | None:
    """Run `jisu export` in a process of its own; returns what it said when it failed."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    words = ["export", "--out", str(folder), "--precision", precision, "--no-advice", "--quiet", *options, "--", model]
    done = subprocess.run([sys.executable, "-m", "jisu", *words], capture_output=True, text=True, errors="replace")
    if done.returncode == 0:
        return None
    lines = done.stderr.strip().splitlines() or ["no word"]
    # What comes after the error of a word that was not understood is a hint at --help.
    said = next((line for line in reversed(lines) if ": error: " in line), lines[-1])
    return f"{said.strip()} (exit code {done.returncode})"


def _unknown(key: str, word: str, names: Iterable[str]) -> str:
    return f"{word} is none of {key}, which are {', '.join(sorted(names))}{_nearest(word, names)}"


def _nearest(word: str, names: Iterable[str]) -> str:
    near = difflib.get_close_matches(word, list(names), n=1)
    return f" (did you mean {near[0]}?)" if near else ""


def _failed_facts(folder: Path) -> dict[str, Any]:
    return {"engine": "jisu", "path": folder.name, "size_bytes": None}


def _are_words(value: Any) -> bool:
    return isinstance(value, list) and all(isinstance(word, str) for word in value)
