"""The source module of a classifier as a backend: the reference that the others are compared with."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

from exporter.artifact import Artifact
from exporter.errors import InputError
from runtimes.backend import Logits
from runtimes.classifier_backend import Rows, padded_rows
from runtimes.memory import told_memory

if TYPE_CHECKING:
    import torch

# A function (artifact, source) -> module forward(input_ids[, attention_mask]) with an attribute `takes_mask`; only the
# exporter knows how to read checkpoints.
SOURCE_OPENER = "exporter.verification:open_torch_classifier"


def open_torch_classifier(artifact: Artifact, *, threads: int | None, source: Any) -> TorchClassifier:
    """Open the checkpoint that an artifact was made from; ``source`` None takes the one its manifest names.

    Raises:
        ImportError: torch or what reads the checkpoint is not installed.
        InputError: the checkpoint is not found or is not the artifact's.
    """
    module_name, _, function = SOURCE_OPENER.partition(":")
    import torch

    open_module = getattr(importlib.import_module(module_name), function)
    if threads is not None:
        torch.set_num_threads(threads)
    return TorchClassifier(open_module(artifact, source), artifact)


class TorchClassifier:
    """Runs the module on the processor."""

    name = "torch"

    def __init__(self, module: torch.nn.Module, artifact: Artifact) -> None:
        facts = artifact.manifest.model
        self.labels = len(facts.labels)
        self.vocab_size = facts.vocab_size
        self.max_positions = facts.max_positions
        self.takes_unequal = bool(module.takes_mask)
        self._pad = facts.pad or 0
        self._module: torch.nn.Module | None = module.eval()

    def logits(self, rows: Rows) -> Logits:
        import torch

        if self._module is None:
            raise InputError(
                "The backend torch is closed", received="a call after close", fix="Load the artifact again."
            )
        ids, mask = padded_rows(rows, self, pad=self._pad)
        given = [torch.from_numpy(array) for array in ((ids, mask) if self.takes_unequal else (ids,))]
        with told_memory(rows=len(ids), tokens=ids.shape[1]), torch.inference_mode():
            found: Logits = self._module(*given).float().contiguous().numpy()
        return found

    def close(self) -> None:
        self._module = None
