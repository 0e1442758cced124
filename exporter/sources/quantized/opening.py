"""Opens the quantized weights of a folder once more, for whoever wants their integers and not their values."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from jisu.exporter.sources.account import Account
from jisu.exporter.sources.model import build_empty
from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.reading import read_quantized
from jisu.exporter.sources.quantized.weight import QuantizedWeight
from jisu.exporter.sources.stored_names import match_names
from jisu.exporter.sources.stored_tensors import leave_out, take_off_prefix
from jisu.exporter.sources.stored_weights import open_weights


@contextlib.contextmanager
def open_quantized(
    folder: Path,
    files: list[Path],
    model_class: Any,
    config: Any,
    declared: Declaration,
    *,
    pickled: bool = False,
    ignore: Sequence[str] = (),
) -> Iterator[dict[str, QuantizedWeight]]:
    """The quantized weights by parameter name, without those that transformers merges or splits on loading.

    Args:
        folder: of the checkpoint.
        files: its weight files.
        model_class: of transformers, and ``config`` for it.
        declared: what the folder says of its quantization.
        pickled: the files are pickles.
        ignore: patterns of stored tensors that are left out.
    """
    empty = build_empty(model_class, config, folder)
    with open_weights(files, pickled=pickled) as stored:
        account, stored = leave_out(Account(ignore=tuple(ignore)), stored)
        account, stored = take_off_prefix(account, stored, empty)
        _, _, quantization = read_quantized(account, stored, declared, empty, folder)
        matches = match_names(empty, quantization.weights)
        yield {
            match.targets[0]: quantization.weights[name]
            for name, match in matches.items()
            if match.targets and not match.converted
        }
