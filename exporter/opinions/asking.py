"""Runs a worker in a process of its own and reads what it answered.

A process of its own, since nothing of ours may have touched the other implementation, since it may live in another
environment, and since llama.cpp ends its process where it finds a file inconsistent.
"""

from __future__ import annotations

import json
import os
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.errors import InputError
from jisu.exporter.opinions.worker import ANSWERS

_ROOT = Path(__file__).parents[3]
# The other environment has no jisu: its worker finds ours, after its own libraries.
_START = (
    "import runpy, sys; sys.path.append({root!r}); runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
)
_LOOK = "import importlib.util, sys; sys.exit(importlib.util.find_spec(sys.argv[1]) is None)"
_QUESTIONS = "questions.json"


@dataclass(frozen=True, kw_only=True)
class Answers:
    """What a worker said; logits lie in its folder and are mapped, not read.

    Attributes:
        version: of the implementation.
        vocab_size: columns of its logits.
        ids, special_ids: of each text, without and with what the tokenizer adds; None where it has no tokenizer.
        rendered: the prompt of each conversation, None where it renders none.
        logits: of each sequence's last rows, float32 [R, V].
        continuations: greedy tokens after each prompt, and the scores they were chosen by, float32 [N, V].
    """

    version: str
    vocab_size: int
    ids: list[list[int]] | None
    special_ids: list[list[int]] | None
    rendered: list[str | None]
    logits: list[npt.NDArray[np.float32]]
    continuations: list[tuple[list[int], npt.NDArray[np.float32]]]


def has_package(python: str, package: str) -> bool:
    """Whether an interpreter finds a package; False where there is no such interpreter."""
    try:
        return subprocess.run([python, "-c", _LOOK, package], capture_output=True, check=False).returncode == 0
    except OSError:
        return False


def ask_worker(worker: str, questions: dict[str, Any], folder: Path, *, python: str, who: str) -> Answers:
    """Put questions to an implementation.

    Args:
        worker: a module of this package.
        questions: those of `exporter.opinions.questions`, and what the worker needs to open the checkpoint.
        folder: an empty one, for questions and answers.
        python: the interpreter of its environment.
        who: the implementation's name, for the error.

    Raises:
        InputError: it cannot open the checkpoint, or ended while it answered.
    """
    request = folder / _QUESTIONS
    request.write_text(json.dumps(questions), encoding="utf-8")
    start = _START.format(root=str(_ROOT), module=f"jisu.exporter.opinions.{worker}")
    offline = {"HF_HUB_OFFLINE": "1", "TRANSFORMERS_OFFLINE": "1"}
    done = subprocess.run(
        [python, "-c", start, str(request)], cwd=folder, env={**os.environ, **offline}, capture_output=True, check=False
    )
    answers = _read(folder / ANSWERS)
    if answers is None or "failed" in answers:
        raise InputError(
            f"{who} gives no second opinion about {questions['checkpoint']}",
            received=_ending(done) if answers is None else answers["failed"],
            allowed=f"a checkpoint that {who} can open and run",
            fix="Verify it without --second-opinion, or update the other implementation.",
        )
    return Answers(
        version=answers["version"],
        vocab_size=answers["vocab_size"],
        ids=answers.get("ids"),
        special_ids=answers.get("special_ids"),
        rendered=answers.get("rendered", []),
        logits=[_mapped(folder / f"logits-{number}.npy") for number in range(len(questions["sequences"]))],
        continuations=[
            (tokens, _mapped(folder / f"scores-{number}.npy")) for number, tokens in enumerate(answers["continuations"])
        ],
    )


def _read(path: Path) -> dict[str, Any] | None:
    try:
        answers: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return answers


def _mapped(path: Path) -> npt.NDArray[np.float32]:
    array: npt.NDArray[np.float32] = np.load(path, mmap_mode="r")
    return array


def _ending(done: subprocess.CompletedProcess[bytes]) -> str:
    how = f"was ended by signal {-done.returncode}" if done.returncode < 0 else f"ended with {done.returncode}"
    lines = done.stderr.decode("utf-8", errors="replace").strip().splitlines()
    reason = next((line for line in lines if "GGML_ASSERT" in line or "Error" in line), lines[-1] if lines else "")
    return f"its process {how}" + (f": {reason.strip()}" if reason else "")
