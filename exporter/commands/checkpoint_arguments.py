"""What all verbs that read a checkpoint understand: which one, and what belongs to it."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_checkpoint_arguments(parser: argparse.ArgumentParser) -> None:
    """CHECKPOINT, --tokenizer, --revision, --allow-pickle, --ignore-weights and --adapter."""
    parser.add_argument(
        "checkpoint",
        help="a Hugging Face folder, a GGUF file, a hub id such as org/name, or a factory package.module:build "
        "that returns an nn.Module",
    )
    group = parser.add_argument_group("checkpoint")
    group.add_argument(
        "--tokenizer", type=Path, metavar="PATH", help="tokenizer.json or its folder, for a model from a factory"
    )
    group.add_argument("--revision", help="branch, tag or commit of a hub id")
    group.add_argument(
        "--allow-pickle",
        action="store_true",
        help="also read .bin and .pt weights, through torch's restricted unpickler",
    )
    group.add_argument(
        "--ignore-weights",
        action="append",
        default=[],
        metavar="PATTERN",
        help="stored tensors to leave out, such as '*.mtp.*'; any other tensor that the model does not use is refused",
    )
    group.add_argument(
        "--adapter",
        action="append",
        default=[],
        dest="adapters",
        type=Path,
        metavar="PATH",
        help="a PEFT LoRA folder to merge into the weights; repeatable",
    )
