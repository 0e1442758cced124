"""`jisu embed`: a vector for each text, as one line of JSON each, or all of them in one file of NumPy."""

from __future__ import annotations

import argparse
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import check_outside_artifacts
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.commands.engine_arguments import add_artifact_arguments, load_engine
from jisu.runtimes.commands.standard_streams import write_json
from jisu.runtimes.commands.text_arguments import add_text_arguments, text_blocks

if TYPE_CHECKING:
    from jisu.runtimes.reading.embedding import Vectors


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declare what the verb understands."""
    add_artifact_arguments(parser)
    add_text_arguments(parser, purpose="embed")
    parser.add_argument(
        "--output",
        type=Path,
        metavar="FILE.npy",
        help="write all vectors into one file of NumPy, float32 [texts, dimensions] (default: lines of JSON)",
    )
    parser.add_argument("--overwrite", action="store_true", help="replace the --output file")
    parser.add_argument(
        "--prompt", metavar="NAME", help="prompt of the model's that goes before each text (default: the model's own)"
    )
    parser.add_argument("--dimensions", type=int, metavar="N", help="keep the first N numbers of each vector")
    parser.add_argument(
        "--normalize",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="give each vector length 1 (default: as the model does)",
    )


def run(arguments: argparse.Namespace) -> int:
    """Embed; returns 0. Raises InputError."""
    _check_output(arguments)
    options = {"prompt": arguments.prompt, "dimensions": arguments.dimensions, "normalize": arguments.normalize}
    parts: list[Vectors] = []
    with load_engine(arguments) as engine:
        for block in text_blocks(arguments):
            vectors = engine.embed(block, **options, truncate=arguments.truncate)
            if arguments.output is not None:
                parts.append(vectors)
                continue
            for text, vector in zip(block, vectors.tolist(), strict=True):
                write_json({"text": text, "embedding": vector})
            sys.stdout.flush()
        if arguments.output is not None:
            _write(arguments.output, parts, columns=arguments.dimensions or engine.dimensions)
    return 0


def _check_output(arguments: argparse.Namespace) -> None:
    path = arguments.output
    if path is None:
        if arguments.overwrite:
            raise InputError(
                "--overwrite belongs to --output",
                received="--overwrite alone",
                allowed="--overwrite together with --output FILE.npy",
                fix="Name the file, or leave --overwrite out.",
            )
        return
    check_outside_artifacts(path, option="--output")
    if path.suffix != ".npy" or (path.exists() and not (arguments.overwrite and path.is_file())):
        raise InputError(
            "The vectors cannot be written there",
            received=f"--output {path}" + (", which is there already" if path.exists() else ""),
            allowed="a new file whose name ends in .npy, or an old one with --overwrite",
            fix="Name another file, or pass --overwrite.",
        )


def _write(path: Path, parts: list[Vectors], *, columns: int) -> None:
    """All vectors into one file, which is there whole or not at all."""
    import numpy as np

    vectors: Any = np.concatenate(parts) if parts else np.empty((0, columns), np.float32)
    partial = path.with_name(f".{path.name}.{os.getpid()}.partial")
    try:
        with partial.open("wb") as stream:
            np.save(stream, vectors)
        partial.replace(path)
    except OSError as error:
        partial.unlink(missing_ok=True)
        raise InputError(
            f"The file {path} cannot be written",
            received=error.strerror or error,
            allowed="a file in a writable folder with enough space",
            fix="Name another file with --output.",
        ) from error
