"""The source module of a classifier as a backend: the reference that the others are compared with."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.runtimes.backends.forks import run_in_children
from jisu.runtimes.backends.out_of_memory import catch_out_of_memory
from jisu.runtimes.backends.padded_classifier import PaddedClassifier
from jisu.runtimes.backends.torch.backend import compute_alone
from jisu.runtimes.machine.threads import usable_threads

if TYPE_CHECKING:
    import torch

# A function (artifact, source) -> module forward(input_ids[, attention_mask]) with an attribute `takes_mask`; only the
# exporter knows how to read checkpoints.
SOURCE_OPENER = "jisu.exporter.verification:open_torch_classifier"


def open_torch_classifier(artifact: Artifact, *, threads: int | None, source: Any) -> PaddedClassifier:
    """Open the checkpoint that an artifact was made from; ``source`` None takes the one its manifest names.

    Raises:
        ImportError: torch or what reads the checkpoint is not installed.
        InputError: the checkpoint is not found or is not the artifact's.
    """
    module_name, _, function = SOURCE_OPENER.partition(":")
    import torch

    open_module = getattr(importlib.import_module(module_name), function)
    run_in_children(compute_alone)
    torch.set_num_threads(threads or min(torch.get_num_threads(), usable_threads()))
    return PaddedClassifier("torch", artifact, partial(_run, open_module(artifact, source).eval()))


def _run(module: torch.nn.Module, ids: TokenIds, mask: TokenIds) -> Logits:
    import torch

    inputs = [torch.from_numpy(array) for array in ((ids, mask) if module.takes_mask else (ids,))]
    with catch_out_of_memory(rows=len(ids), tokens=ids.shape[1]), torch.inference_mode():
        logits: Logits = module(*inputs).float().contiguous().numpy()
    return logits
