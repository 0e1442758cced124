"""A classifier on ONNX Runtime's CPU provider."""

from __future__ import annotations

from functools import partial
from typing import Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.signature import Signature
from jisu.runtimes.backends.forks import Reopened
from jisu.runtimes.backends.ort.kernels import check_kernels
from jisu.runtimes.backends.ort.rows import run_rows
from jisu.runtimes.backends.ort.session import PROVIDER
from jisu.runtimes.backends.ort.signature import check_session
from jisu.runtimes.backends.ort_cpu.backend import open_again
from jisu.runtimes.backends.out_of_memory import catch_out_of_memory
from jisu.runtimes.backends.padded_classifier import PaddedClassifier

NAME = "ort-cpu"


def open_ort_classifier(artifact: Artifact, *, threads: int | None, source: Any) -> PaddedClassifier:
    """Open a classifier's graph; ``source`` is not needed.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: the graph is damaged, keeps weights elsewhere, does not have the manifest's signature, or needs
            kernels that this CPU does not have.
    """
    check_kernels(artifact)
    session, signature = open_again(artifact.cpu_graph, threads=threads), artifact.manifest.signature
    check_session(session.get(), signature, provider=PROVIDER)
    return PaddedClassifier(NAME, artifact, partial(_run, session, signature), release=session.close)


def _run(session: Reopened, signature: Signature, ids: TokenIds, mask: TokenIds) -> Logits:
    with catch_out_of_memory(rows=len(ids), tokens=ids.shape[1]):
        return run_rows(session.get(), signature, ids, mask)
