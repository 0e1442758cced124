"""A classifier on ONNX Runtime's processor provider."""

from __future__ import annotations

from typing import Any

from exporter.artifact import Artifact
from exporter.errors import InputError
from exporter.signature import ATTENTION_MASK, INPUT_IDS, LOGITS
from runtimes.backend import Logits
from runtimes.classifier_backend import Rows, padded_rows
from runtimes.memory import told_memory
from runtimes.ort_session import PROVIDER, open_session
from runtimes.ort_signature import check_session


def open_ort_classifier(artifact: Artifact, *, threads: int | None, source: Any) -> OrtClassifier:
    """Open a classifier's graph; ``source`` is not needed.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: the graph is damaged, keeps weights elsewhere, or does not have the manifest's signature.
    """
    return OrtClassifier(open_session(artifact.cpu_graph, threads=threads), artifact)


class OrtClassifier:
    """Runs a graph from ``input_ids`` and, where it has one, ``attention_mask`` to ``logits`` [B, labels]."""

    name = "ort-cpu"

    def __init__(self, session: Any, artifact: Artifact) -> None:
        manifest = artifact.manifest
        check_session(session, manifest.signature, provider=PROVIDER)
        self.labels = len(manifest.model.labels)
        self.vocab_size = manifest.model.vocab_size
        self.max_positions = manifest.model.max_positions
        self.takes_unequal = manifest.signature.has_input(ATTENTION_MASK)
        self._pad = manifest.model.pad or 0
        self._session: Any | None = session

    def logits(self, rows: Rows) -> Logits:
        if self._session is None:
            raise InputError(
                "The backend ort-cpu is closed", received="a call after close", fix="Load the artifact again."
            )
        ids, mask = padded_rows(rows, self, pad=self._pad)
        feeds = {INPUT_IDS: ids, **({ATTENTION_MASK: mask} if self.takes_unequal else {})}
        with told_memory(rows=len(ids), tokens=ids.shape[1]):
            found: Logits = self._session.run([LOGITS], feeds)[0]
        return found

    def close(self) -> None:
        self._session = None
