"""The trials of a run: every kind of input damaged, and every job killed."""

from __future__ import annotations

import shutil
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Protocol

from jisu.benchmarks.robustness.answers import artifact_answers, checkpoint_answers
from jisu.benchmarks.robustness.checkpoint_damage import CheckpointDamage
from jisu.benchmarks.robustness.damage import Damage
from jisu.benchmarks.robustness.full_disk import filled
from jisu.benchmarks.robustness.kills import Kills
from jisu.benchmarks.robustness.subjects import Inputs
from jisu.benchmarks.robustness.tally import Tally


class Trial(Protocol):
    """Something that is tried again and again; each attempt has a number, and the same number does the same."""

    @property
    def name(self) -> str: ...

    def run(self, number: int, tally: Tally) -> None: ...


@dataclass(frozen=True, kw_only=True)
class Setting:
    """Where copies are made, after how many seconds an attempt hangs, and what is damaged by chance."""

    place: Path
    seconds: float
    seed: int = 0

    def make(self, name: str) -> Path:
        folder = self.place / name.replace(" ", "-").replace(":", "")
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder


def artifact_trial(name: str, folder: Path, setting: Setting) -> Damage:
    """An artifact with one file damaged: refused, or the same answer."""
    return Damage(
        name=f"artifact {name}",
        path=folder,
        read=artifact_answers,
        place=setting.make(f"artifact {name}"),
        seconds=setting.seconds,
        seed=setting.seed,
        keeps_answer=True,
    )


def checkpoint_trial(
    name: str, path: Path, setting: Setting, *, options: Mapping[str, Any] | None = None
) -> CheckpointDamage:
    """A checkpoint with one file damaged; see `CheckpointDamage`."""
    options = options or {}
    return CheckpointDamage(
        name=f"checkpoint {name}",
        path=path,
        read=partial(checkpoint_answers, **options),
        place=setting.make(f"checkpoint {name}"),
        seconds=setting.seconds,
        seed=setting.seed,
        options=options,
        defaults=_defaults(path),
    )


def _defaults(path: Path) -> dict[str, Any]:
    """What a configuration and settings of generation mean where they say nothing."""
    import json

    import transformers

    generation: Any = transformers.GenerationConfig
    values: dict[str, Any] = generation().to_dict()
    if (path / "config.json").is_file():
        kind = json.loads((path / "config.json").read_text(encoding="utf-8"))["model_type"]
        values |= transformers.AutoConfig.for_model(kind).to_dict()
    return values


def other_trials(inputs: Inputs, setting: Setting) -> list[Damage]:
    """What else is read: statistics, reports, texts. A damaged one is refused, or is another one."""
    reads: list[tuple[str, Path, Callable[[Path], Any]]] = [
        ("statistics", inputs.statistics, partial(_read_statistics, inputs.source)),
        ("baseline", inputs.report, partial(_read_baseline, inputs.report)),
        ("report", inputs.report, _render_report),
        ("calibration text", inputs.text, partial(_read_calibration, inputs.source)),
        ("evaluation text", inputs.text, _read_evaluation),
    ]
    return [
        Damage(
            name=name,
            path=path,
            read=read,
            place=setting.make(name),
            seconds=setting.seconds,
            seed=setting.seed,
        )
        for name, path, read in reads
    ]


def _read_statistics(source: Path, folder: Path) -> None:
    from jisu.calibration.errors import CalibrationError
    from jisu.exporter.contract.errors import InputError
    from jisu.exporter.quantization.calibration_data import read_calibration_data
    from jisu.exporter.sources import load_source

    try:
        data = read_calibration_data(load_source(source), folder)
        assert data.statistics is not None
        for index in range(len(data.statistics.groups)):
            data.statistics.read_group(index)
    except CalibrationError as error:  # as an export says it
        raise InputError.of(error) from error


def _read_baseline(whole: Path, path: Path) -> None:
    from jisu.benchmarks.report.report import read_report
    from jisu.benchmarks.report.verdict import Limits, judge

    judge(read_report(whole), read_report(path), Limits(max_slowdown=1.1, max_memory_growth=1.1, max_size_growth=1.1))


def _render_report(path: Path) -> None:
    from jisu.benchmarks.report.html import render_html
    from jisu.benchmarks.report.markdown import render_markdown
    from jisu.benchmarks.report.publish import render_whole, standalone_plot
    from jisu.benchmarks.report.report import read_report

    report = read_report(path)
    for render in (render_markdown, render_html, standalone_plot):
        render_whole(report, render)


def _read_calibration(source: Path, path: Path) -> None:
    from jisu.exporter.quantization.calibration_data import read_calibration_data
    from jisu.exporter.sources import load_source

    read_calibration_data(load_source(source), path, windows=4, window_tokens=64)


def _read_evaluation(path: Path) -> None:
    from jisu.exporter.gate.evaluation_text import read_evaluation_text

    read_evaluation_text(path)


def kill_trials(inputs: Inputs, setting: Setting, *, disk: Path | None = None) -> list[Kills]:
    """Exports, a calibration, a comparison and a build that are killed, or whose ``disk`` fills where one is given."""
    jobs: Sequence[tuple[str, Callable[[Path], Any], Callable[[Path], Any], bool]] = [
        ("export", partial(_export, inputs.source, {}), _artifact_digest, True),
        (
            "export int8",
            partial(_export, inputs.source, {"precision": "int8", "max_kl": 5.0, "min_top1": 0.0}),
            _artifact_digest,
            True,
        ),
        ("calibrate", partial(_calibrate, inputs.source), partial(_statistics_digest, inputs.source), True),
        ("compare", partial(_compare, inputs), _report_digest, False),
    ]
    if find_spec("tensorrt_rtx") is not None:
        jobs = [*jobs, ("build", partial(_build, inputs.for_tensorrt), _plan_digest, False)]
    what, disturbs = ("kill", None) if disk is None else ("fill", filled)
    return [
        Kills(
            name=f"{what} {name}",
            job=job,
            digest=digest,
            place=setting.make(f"{what} {name}") if disk is None else disk / name.replace(" ", "-"),
            disturbs=disturbs,
            seconds=20 * setting.seconds,
            seed=setting.seed,
            repeats=repeats,
        )
        for name, job, digest, repeats in jobs
    ]


def export_kills(name: str, checkpoint: Path, setting: Setting) -> Kills:
    """An export of a checkpoint to int8 that is killed, which may be a large one."""
    return Kills(
        name=f"kill export of {name}",
        job=partial(_export, checkpoint, {"precision": "int8"}),
        digest=_artifact_digest,
        place=setting.make(f"kill {name}"),
        seconds=20 * setting.seconds,
        seed=setting.seed,
    )


def _build(artifact: Path, out: Path) -> None:
    from jisu.exporter.contract.artifact import read_artifact
    from jisu.runtimes.backends.tensorrt.build import build_plan
    from jisu.runtimes.backends.tensorrt.library import import_library
    from jisu.runtimes.backends.tensorrt.profiles import Shapes

    shapes = Shapes(capacity=128, prompt=32)
    library = import_library("tensorrt-rtx")
    build_plan(read_artifact(artifact), library, out, target="sm89", capability=(8, 9), shapes=shapes)


def _plan_digest(out: Path) -> Any:
    """None without a plan that has its record; one whose bytes are not those of its record is half a one."""
    import hashlib

    from jisu.exporter.contract.errors import InputError
    from jisu.runtimes.backends.tensorrt.plan_file import read_record

    plans = [path.with_suffix("") for path in sorted(out.glob("*.json"))]
    for plan in plans:
        if hashlib.sha256(plan.read_bytes()).hexdigest() != read_record(plan).sha256:
            raise InputError(
                f"{plan.name} has not the bytes of its record",
                received="another hash",
                allowed="a plan as it was written",
                fix="Build it again.",
            )
    return [plan.name for plan in plans] or None


def _export(source: Path, options: Mapping[str, Any], out: Path) -> None:
    from jisu.exporter import export
    from jisu.exporter.contract.errors import InputError

    try:
        export(source, out, **options)
    except InputError:
        if not out.exists():  # what was killed when it was published already is there
            raise


def _artifact_digest(out: Path) -> Any:
    from jisu.exporter.contract.artifact import read_artifact

    artifact = read_artifact(out, check_hashes=True)
    return {name: record.sha256 for name, record in artifact.manifest.files.items()}


def _calibrate(source: Path, out: Path) -> None:
    from jisu.exporter import calibrate

    calibrate(source, out, windows=24, window_tokens=256)


def _statistics_digest(source: Path, out: Path) -> Any:
    """None of an unfinished collection."""
    import hashlib

    from jisu.calibration.statistics.statistics import Statistics, has_statistics

    if not has_statistics(out):
        return None
    statistics = Statistics(out)
    if statistics.windows_done < statistics.windows_wanted or not (out / "calibration.json").exists():
        return None
    _read_statistics(source, out)
    digest = hashlib.sha256()
    for index in range(len(statistics.groups)):
        group = statistics.read_group(index)
        digest.update(group.sum_abs.tobytes() + group.max_abs.tobytes() + group.sum_square.tobytes())
    return digest.hexdigest()


def _compare(inputs: Inputs, out: Path) -> None:
    from jisu.benchmarks.compare.run import ComparisonRequest, compare
    from jisu.exporter.contract.errors import InputError

    report = compare(
        ComparisonRequest(
            artifacts=(inputs.artifacts["llama"], inputs.artifacts["int8"]),
            out=out,
            workloads=("short-chat", "batch-4"),
            trials=3,
            threads=1,
        )
    )
    failed = [f"{row['name']}: {row['failure']}" for row in report["rows"] if row["failure"] is not None]
    problems = (report["reference"] or {}).get("problems", [])
    if failed or problems:
        raise InputError(
            "A row of the comparison failed",
            received="; ".join([*failed, *problems]),
            allowed="rows that can all be measured",
            fix="See the report of the comparison.",
        )


def _report_digest(out: Path) -> Any:
    """None where no report has been written; the rows of a whole one."""
    from jisu.benchmarks.report.report import read_report

    path = out / "report.json"
    return [row["name"] for row in read_report(path)["rows"]] if path.exists() else None
