"""Where a training stands after an epoch, so that a killed one resumes as if nothing had happened.

The file is written beside its place and renamed. It is read with `weights_only`: tensors and plain values, no code.
"""

from __future__ import annotations

import contextlib
import os
import pickle
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from jisu import InputError

CHECKPOINT = "checkpoint.pt"


@dataclass(kw_only=True)
class Progress:
    """Everything that the next epoch depends on; the random numbers of an epoch depend on the seed and its number only.

    Attributes:
        identity: what the training was asked to do; another training may not resume here.
        epoch: epochs that are done.
        weights, optimizer: the state of both after them.
        best_loss, best_epoch, best_weights: the lowest validation loss, and where it was.
        history: training and validation loss of each epoch.
    """

    identity: dict[str, Any]
    epoch: int
    weights: dict[str, Tensor]
    optimizer: dict[str, Any]
    best_loss: float
    best_epoch: int
    best_weights: dict[str, Tensor]
    history: list[tuple[float, float]]


def save_progress(folder: Path, progress: Progress) -> None:
    """Write the checkpoint; whoever reads it sees the old one or the new one.

    Raises:
        InputError: it cannot be written, as on a full disk.
    """
    partial = folder / f"{CHECKPOINT}.partial"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with partial.open("wb") as file:
            torch.save({field.name: getattr(progress, field.name) for field in fields(progress)}, file)
            file.flush()
            os.fsync(file.fileno())
        partial.replace(folder / CHECKPOINT)
    except (OSError, RuntimeError) as error:  # torch's writer raises the second
        with contextlib.suppress(OSError):
            partial.unlink(missing_ok=True)
        raise InputError(
            f"The checkpoint of the training cannot be written into {folder}",
            received=getattr(error, "strerror", None) or str(error).splitlines()[0],
            allowed="a folder with room for three times the model",
            fix="Make room, and continue with --resume where an earlier checkpoint lies there.",
        ) from error


def read_progress(folder: Path, identity: dict[str, Any]) -> Progress:
    """Read the checkpoint of a training.

    Raises:
        InputError: there is none, it is damaged, or it belongs to a training with other settings or data.
    """
    path = folder / CHECKPOINT
    try:
        progress = Progress(**torch.load(path, weights_only=True, map_location="cpu"))
    except (OSError, RuntimeError, EOFError, TypeError, ValueError, pickle.UnpicklingError) as error:
        raise InputError(
            f"There is no training to resume in {folder}",
            received=f"{CHECKPOINT}: {getattr(error, 'strerror', None) or str(error).splitlines()[0]}",
            allowed="a folder with a checkpoint that `train` wrote",
            fix="Train without --resume, into a new folder.",
        ) from error
    differing = sorted(
        name for name in {*identity, *progress.identity} if identity.get(name) != progress.identity.get(name)
    )
    if differing:
        raise InputError(
            f"The checkpoint in {folder} is of another training",
            received=", ".join(f"{name} {identity.get(name)}" for name in differing),
            allowed=", ".join(f"{name} {progress.identity.get(name)}" for name in differing),
            fix="Resume with the settings and the data it began with, or train into a new folder.",
        )
    return progress
