from __future__ import annotations

import json
from functools import partial

import pytest

from jisu.benchmarks.robustness.checkpoint_damage import CheckpointDamage
from jisu.exporter.contract.errors import GateRejectedError

CONFIG = {"size": 3, "base": 10.0}


def read(path, *, says=()):
    """A reader that knows ``size`` and ``base``, and drops everything that is not a number."""
    config = json.loads((path / "config.json").read_bytes())
    known = {"size": 8, "base": 5.0}
    answers = {key: value for key, value in {**known, **config}.items() if key in known}
    answers = {key: value if type(value) in (int, float) else known[key] for key, value in answers.items()}
    return {"answers": answers, "notes": [f"{key} is not read" for key in says if key in config]}


def publish(path, out, **options):
    return read(path)["answers"]


def judge(tmp_path, config, *, says=(), publish=publish, number=3):
    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(CONFIG))
    place = tmp_path / "copy"
    place.mkdir()
    trial = CheckpointDamage(
        name="trial",
        path=folder,
        read=partial(read, says=says),
        place=place,
        seconds=20,
        defaults={"size": 8},
        publish=publish,
    )
    trial._number = number
    damaged = json.dumps(config).encode()
    with trial.copy_with("config.json", damaged) as copy:
        from jisu.benchmarks.robustness.attempt import attempt

        outcome = attempt(lambda: trial.read(copy), seconds=20)
        return trial.judged("config.json", damaged, outcome, trial.whole)[0]


@pytest.mark.parametrize(
    ("config", "ending"),
    [
        ({"size": 3, "base": 10.0, "other": 1}, "same answer"),
        ({"size": 4, "base": 10.0}, "another model: states it"),
        ({"base": 10.0}, "another model: states less"),
        ({"size": None, "base": 10.0}, "another model: states less"),
        ({"size": 8, "base": 10.0}, "another model: states it"),  # what its absence means as well
        ({"size": "3", "base": 10.0}, "dropped in silence"),
        ({"sjze": 3, "base": 10.0}, "dropped in silence"),
    ],
)
def test_another_model_is_told_from_a_statement_dropped(tmp_path, config, ending):
    assert judge(tmp_path, config) == ending


def test_what_the_user_was_told_is_not_dropped_in_silence(tmp_path):
    assert judge(tmp_path, {"sjze": 3, "base": 10.0}, says=("sjze",)) == "said"


def test_what_the_export_rejects_is_not_published(tmp_path):
    def reject(path, out, **options):
        raise GateRejectedError("Another model.")

    assert judge(tmp_path, {"sjze": 3, "base": 10.0}, publish=reject) == "rejected by the export"


def test_an_artifact_that_answers_otherwise_than_the_same_checkpoint_is_found(tmp_path):
    def differ(path, out, **options):
        return str(out.name)

    assert judge(tmp_path, {"size": 3, "base": 10.0, "other": 1}, publish=differ, number=59) == "other answer"
    assert judge(tmp_path / "..", CONFIG, publish=differ, number=0) == "same answer"
