"""The source module of a model that reads whole texts as a backend: what the others are compared with."""

from __future__ import annotations

import importlib
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.signature import INPUT_IDS
from jisu.runtimes.backends.forks import run_in_children
from jisu.runtimes.backends.out_of_memory import catch_out_of_memory
from jisu.runtimes.backends.padded_one_pass import PaddedOnePass, output_of
from jisu.runtimes.backends.torch.backend import compute_alone
from jisu.runtimes.machine.threads import usable_threads

if TYPE_CHECKING:
    import torch

# A function (artifact, source) -> module that gives a tuple of tensors of the graph's inputs, by their names; only the
# exporter knows how to read checkpoints.
SOURCE_OPENER = "jisu.exporter.verification:open_torch_one_pass"


def open_torch_one_pass(artifact: Artifact, *, threads: int | None, source: Any) -> PaddedOnePass:
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
    names = [spec.name for spec in artifact.manifest.signature.outputs]
    run = partial(_run, open_module(artifact, source).eval(), names.index(output_of(artifact).name))
    return PaddedOnePass("torch", artifact, run)


def _run(module: torch.nn.Module, output: int, feeds: dict[str, TokenIds]) -> Logits:
    import torch

    rows, tokens = feeds[INPUT_IDS].shape
    inputs = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with catch_out_of_memory(rows=rows, tokens=tokens), torch.inference_mode():
        numbers: Logits = module(**inputs)[output].float().contiguous().numpy()
    return numbers
