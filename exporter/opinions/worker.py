"""What both workers share: a file of questions in, files of answers out, in a process that ends when it is done.

Standard library and numpy only: a worker may run in the environment of another engine. Nothing here knows of artifacts.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

ANSWERS = "answers.json"


class Implementation(Protocol):
    """A checkpoint that another implementation has opened.

    ``vocab_size`` counts the columns of its logits. ``files_type`` says how its weights are multiplied.
    """

    version: str
    vocab_size: int
    has_tokenizer: bool

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        """Token ids; ``special_tokens`` lets the tokenizer add its own. Special tokens in the text are recognized."""
        ...

    def render(self, messages: list[dict[str, str]]) -> str | None:
        """The prompt of a conversation; None where there is no template, or nothing that renders it."""
        ...

    def logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        """Logits after every token, float32 [T, V]."""
        ...

    def continue_greedily(self, ids: list[int], count: int) -> tuple[list[int], npt.NDArray[np.float32]]:
        """The most likely next tokens, at most ``count``, and the scores they were chosen by, float32 [count, V]."""
        ...


def answer(open_checkpoint: Callable[[dict[str, Any]], Implementation]) -> None:
    """Answer the questions in the file that the first argument names; a failure is an answer, and ends with 1."""
    questions = json.loads(Path(sys.argv[1]).read_text(encoding="utf-8"))
    folder = Path(sys.argv[1]).parent
    try:
        answers = _answers(open_checkpoint(questions), questions, folder)
    except Exception as error:  # noqa: BLE001 - whatever an implementation raises is its answer
        answers = {"failed": f"{type(error).__name__}: {error}"}
    (folder / ANSWERS).write_text(json.dumps(answers), encoding="utf-8")
    sys.exit(1 if "failed" in answers else 0)


def _answers(opened: Implementation, questions: dict[str, Any], folder: Path) -> dict[str, Any]:
    answers: dict[str, Any] = {"version": opened.version, "vocab_size": opened.vocab_size}
    if opened.has_tokenizer:
        texts = questions["texts"]
        answers["ids"] = [opened.encode(text, special_tokens=False) for text in texts]
        answers["special_ids"] = [opened.encode(text, special_tokens=True) for text in texts]
        answers["rendered"] = [opened.render(messages) for messages in questions["conversations"]]
    for number, ids in enumerate(questions["sequences"]):
        np.save(folder / f"logits-{number}.npy", opened.logits(ids)[-questions["rows"] :])
    answers["continuations"] = []
    for number, ids in enumerate(questions["prompts"]):
        tokens, scores = opened.continue_greedily(ids, questions["new_tokens"])
        np.save(folder / f"scores-{number}.npy", scores)
        answers["continuations"].append(tokens)
    return answers
