"""A tiny prepared folder for each task, and settings that train within a second."""

from __future__ import annotations

import random
from itertools import product
from pathlib import Path

from examples.text_rnn.chinese_corpus import (
    ASPECTS,
    GOODS,
    GOODS_SAID,
    LABELS,
    chinese_labelled,
    chinese_sentences,
)
from examples.text_rnn.csv_table import Table
from examples.text_rnn.english_corpus import english_labelled, english_sentences
from examples.text_rnn.prepared_data import Preparation, write_preparation
from examples.text_rnn.preprocessing import Preprocessing
from jisu.exporter.models.settings import ModelSettings


def prepare(folder: Path, *, task: str = "generate", language: str = "zh", texts: int = 40) -> Preparation:
    if task == "generate":
        actual = chinese_sentences(texts) if language == "zh" else english_sentences()[:texts]
        rows = [Table(texts=tuple(part), labels=None) for part in (actual[texts // 4 :], actual[: texts // 4])]
    else:
        pairs = chinese_labelled(texts) if language == "zh" else english_labelled()[:texts]
        rows = [
            Table(texts=tuple(text for text, _ in part), labels=tuple(label for _, label in part))
            for part in (pairs[texts // 4 :], pairs[: texts // 4])
        ]
    return write_preparation(folder, *rows, task=task, preprocessing=Preprocessing(language=language))


def prepare_plain_reviews(folder: Path) -> Preparation:
    """400 reviews whose last words say all, so that what is learned does not depend on how a CPU rounds."""
    pairs = [
        (f"这个{goods}的{aspect}{said[label]}。", LABELS[label])
        for goods, aspect, said, label in product(GOODS, ASPECTS, GOODS_SAID[:3], (0, 1))
    ]
    texts, labels = zip(*random.Random(0).sample(pairs, 400), strict=True)
    rows = [Table(texts=texts[part], labels=labels[part]) for part in (slice(100, None), slice(100))]
    return write_preparation(folder, *rows, task="classify", preprocessing=Preprocessing(language="zh"))


def sizes(network: str, vocab_size: int, **changes) -> ModelSettings:
    small = {"embedding_size": 16, "hidden_size": 32, "heads": 2, "context": 3, "dropout": 0.1}
    return ModelSettings(network=network, vocab_size=vocab_size, **{**small, **changes})
