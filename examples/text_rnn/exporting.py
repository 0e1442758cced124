"""A trained model -> a verified engine."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from examples.text_rnn.csv_table import read_table
from examples.text_rnn.prepared_data import TEST, TRAIN, Preparation
from examples.text_rnn.trained_model import TrainedModel
from examples.text_rnn.vocabulary import BEGIN, END

_FEWEST_WORDS = 1024


def export_model(model: TrainedModel, data: Path, out: Path, *, target: str, precision: str) -> Any:
    """Export, verify and publish; returns the artifact.

    A reduced precision is calibrated on the training texts and judged on the test texts, in the model's own words.

    Raises:
        InputError: the data cannot be read, or the folder is there already.
        GateRejectedError: the engine is not the model; nothing was published.
    """
    from jisu import export

    with tempfile.TemporaryDirectory() as folder:
        texts = {name: Path(folder) / f"{name}.txt" for name in (TRAIN, TEST)}
        for name, path in texts.items():
            path.write_text(prepared_text(data / name, model.preparation), encoding="utf-8")
        return export(
            model.module,
            out,
            tokenizer=model.tokenizer,
            target=target,
            precision=precision,
            calibration=texts[TRAIN] if precision not in ("fp32", "fp16", "bf16", "int8") else None,
            evaluation=texts[TEST],
        )


def prepared_text(path: Path, preparation: Preparation) -> str:
    """The texts of a CSV file after preprocessing, one a line, each between `<bos>` and `<eos>`.

    Fewer than `_FEWEST_WORDS` are repeated: the export measures whole windows of text.
    """
    prepare = preparation.preprocessing.prepare
    lines = [f"{BEGIN} {prepare(text)} {END}" for text in read_table(path).texts]
    words = sum(len(line.split()) for line in lines)
    return "\n".join(lines * -(-_FEWEST_WORDS // words))
