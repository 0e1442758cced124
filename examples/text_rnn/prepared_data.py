"""Prepared data: the folder between raw text and training, with all that later steps have to agree on.

It holds train.csv and test.csv, tokenizer.json, and preparation.json with the preprocessing and the labels.
"""

from __future__ import annotations

import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

from examples.text_rnn.chinese_corpus import chinese_labelled, chinese_sentences
from examples.text_rnn.csv_table import LABEL, TEXT, Table, check_labels, read_table, write_table
from examples.text_rnn.english_corpus import english_labelled, english_sentences
from examples.text_rnn.new_folder import write_folder
from examples.text_rnn.preprocessing import Preprocessing
from examples.text_rnn.segmentation import Language
from examples.text_rnn.vocabulary import BEGIN_ID, END_ID, build_tokenizer, read_tokenizer
from jisu import InputError

if TYPE_CHECKING:
    from tokenizers import Tokenizer

Task = Literal["generate", "classify"]
TASKS: tuple[Task, ...] = get_args(Task)
TRAIN, TEST, TOKENIZER, PREPARATION = "train.csv", "test.csv", "tokenizer.json", "preparation.json"
_TEST_SHARE = 0.1


@dataclass(frozen=True, kw_only=True)
class Preparation:
    """What all steps after the preparation share. ``labels`` is empty for a language model."""

    task: Task
    preprocessing: Preprocessing
    labels: tuple[str, ...]

    def to_dict(self) -> dict[str, Any]:
        return {"task": self.task, "preprocessing": self.preprocessing.to_dict(), "labels": list(self.labels)}


@dataclass(frozen=True, kw_only=True)
class Examples:
    """Texts as token ids, without padding. ``label_ids`` are places among the labels, None for a language model."""

    token_ids: tuple[tuple[int, ...], ...]
    label_ids: tuple[int, ...] | None


def own_tables(task: Task, language: Language, *, seed: int = 0) -> tuple[Table, Table]:
    """Training and test rows of the corpus that the example makes itself; no text is in both."""
    rows: list[tuple[str, ...]]
    if task == "generate":
        rows = [(text,) for text in (chinese_sentences() if language == "zh" else english_sentences())]
    else:
        rows = [*(chinese_labelled() if language == "zh" else english_labelled())]
    random.Random(seed).shuffle(rows)
    end = round(len(rows) * _TEST_SHARE)
    return _table(rows[end:]), _table(rows[:end])


def write_preparation(
    out: Path,
    train: Table,
    test: Table,
    *,
    task: Task,
    preprocessing: Preprocessing,
    min_count: int = 1,
    max_words: int | None = None,
) -> Preparation:
    """Learn the vocabulary of the training rows and write the folder, whole or not at all.

    Raises:
        InputError: the folder exists, there is no word, one label only, or a label that only the test rows have.
    """
    labels: tuple[str, ...] = ()
    if task == "classify":
        assert train.labels is not None and test.labels is not None
        labels = check_labels(train.labels, Path(TRAIN))
        _check_known_labels(test.labels, labels)
    words = [preprocessing.words(text) for text in train.texts]
    tokenizer = build_tokenizer(words, preprocessing, min_count=min_count, max_words=max_words)
    preparation = Preparation(task=task, preprocessing=preprocessing, labels=labels)
    with write_folder(out) as folder:
        for name, table in ((TRAIN, train), (TEST, test)):
            cells = [table.texts] if table.labels is None else [table.texts, table.labels]
            write_table(folder / name, [TEXT, LABEL][: len(cells)], list(zip(*cells, strict=True)))
        tokenizer.save(str(folder / TOKENIZER))
        save_preparation(folder, preparation)
    return preparation


def save_preparation(folder: Path, preparation: Preparation) -> None:
    text = json.dumps(preparation.to_dict(), ensure_ascii=False, indent=2)
    (folder / PREPARATION).write_text(text + "\n", encoding="utf-8")


def read_preparation(folder: Path) -> Preparation:
    """Read preparation.json; raises InputError when the folder is none that `prepare` or `train` wrote."""
    path = folder / PREPARATION
    try:
        data = json.loads(path.read_text(encoding="utf-8"))
        task, labels = data["task"], tuple(map(str, data["labels"]))
        preprocessing = Preprocessing.from_dict(data["preprocessing"])
        if task not in TASKS:
            raise ValueError(f"task {task!r}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} holds no prepared data",
            received=f"{PREPARATION}: {getattr(error, 'strerror', None) or error}",
            allowed="a folder that `prepare` or `train` wrote",
            fix="Run `python -m examples.text_rnn prepare` first.",
        ) from error
    return Preparation(task=task, preprocessing=preprocessing, labels=labels)


def read_examples(folder: Path, name: str, *, longest: int) -> Examples:
    """The rows of train.csv or test.csv as token ids, each at most ``longest``.

    A text for a language model lies between `<bos>` and `<eos>`; a longer one ends without the latter.
    """
    preparation, tokenizer = read_preparation(folder), read_tokenizer(folder / TOKENIZER)
    path = folder / name
    table = read_table(path, label=LABEL if preparation.task == "classify" else None)
    texts = [token_ids(text, tokenizer, preparation) for text in table.texts]
    if table.labels is None:
        return Examples(token_ids=tuple(((*ids, END_ID))[:longest] for ids in texts), label_ids=None)
    _check_known_labels(table.labels, preparation.labels)
    place = {label: index for index, label in enumerate(preparation.labels)}
    return Examples(
        token_ids=tuple(tuple(ids[:longest]) for ids in texts), label_ids=tuple(place[label] for label in table.labels)
    )


def token_ids(text: str, tokenizer: Tokenizer, preparation: Preparation) -> list[int]:
    """Token ids of one text after preprocessing, `<bos>` first; never empty."""
    ids: list[int] = tokenizer.encode(preparation.preprocessing.prepare(text)).ids
    assert ids[0] == BEGIN_ID
    return ids


def _check_known_labels(labels: Sequence[str], known: Sequence[str]) -> None:
    unknown = sorted(set(labels) - set(known))
    if unknown:
        raise InputError(
            "The test data has labels that the training data has not",
            received=", ".join(unknown),
            allowed=", ".join(known),
            fix="Add texts of these classes to the training data, or take them out of the test data.",
        )


def _table(rows: Sequence[Sequence[str]]) -> Table:
    labels = tuple(row[1] for row in rows) if len(rows[0]) == 2 else None
    return Table(texts=tuple(row[0] for row in rows), labels=labels)
