"""A model that reads whole texts on ONNX Runtime's CPU provider."""

from __future__ import annotations

from functools import partial
from typing import Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.signature import INPUT_IDS
from jisu.runtimes.backends.forks import Reopened
from jisu.runtimes.backends.ort.kernels import check_kernels
from jisu.runtimes.backends.ort.rows import run_rows
from jisu.runtimes.backends.ort.session import PROVIDER
from jisu.runtimes.backends.ort.signature import check_session
from jisu.runtimes.backends.ort_cpu.backend import OrtCpuBackend, open_again
from jisu.runtimes.backends.ort_cpu.rows_apart import UNFUSED, RowsApart, rows_apart
from jisu.runtimes.backends.out_of_memory import catch_out_of_memory
from jisu.runtimes.backends.padded_one_pass import PaddedOnePass, output_of


def open_ort_one_pass(
    artifact: Artifact, *, threads: int | None, source: Any, session: Reopened | None = None
) -> PaddedOnePass:
    """Open its graph; ``source`` is not needed.

    Args:
        session: of its graph, opened in another way; this opens it where there is none.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: the graph is damaged, keeps weights elsewhere, does not have the manifest's signature, or needs
            kernels that this CPU does not have.
    """
    check_kernels(artifact)
    signature = artifact.manifest.signature
    if session is None:
        session = open_again(artifact.cpu_graph, threads=threads, unfused=UNFUSED)
    check_session(session.get(), signature, provider=PROVIDER)
    apart = rows_apart(artifact, threads)

    def release() -> None:
        session.close()
        if apart is not None:
            apart.close()

    return PaddedOnePass(
        OrtCpuBackend.name, artifact, partial(_run, session, apart, output_of(artifact).name), release=release
    )


def _run(session: Reopened, apart: RowsApart | None, output: str, feeds: dict[str, TokenIds]) -> Logits:
    rows, tokens = feeds[INPUT_IDS].shape
    with catch_out_of_memory(rows=rows, tokens=tokens):
        parts = 0 if apart is None else apart.parts(rows, tokens)
        if apart is None or not parts:
            return run_rows(session.get(), output, feeds)
        return apart.run(output, feeds, parts)
