"""Opens a written artifact as its users will: the one place where the exporter calls the runtimes.

The arrow points from runtimes to exporter; verifying what users will run is the step that looks back.
"""

from __future__ import annotations

from collections.abc import Mapping
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.opened_sizes import MAPPED_BYTES, opened_bytes
from jisu.exporter.gate.session_in_pieces import SessionInPieces

if TYPE_CHECKING:
    import onnx
    import onnx_ir as ir

    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.contract.backend import Backend
    from jisu.exporter.contract.one_pass_backend import OnePassBackend
    from jisu.exporter.contract.speech_backend import SpeechBackend
    from jisu.exporter.graph.localize import OpenGraph
    from jisu.runtimes.backends.forks import Reopened

_ROUNDS_INPUTS = "session.qdq_matmulnbits_accuracy_level"
WITH_VNNI = "CPUs that add int8 products in 32 bits (VNNI, AMX, Arm)"


def open_candidate(
    artifact: Artifact, backend: str = "ort-cpu", *, threads: int | None = None, open_bytes: int | None = None
) -> Backend:
    """The candidate's graph on a backend; close it after use.

    Args:
        open_bytes: of opened weights that may be in memory at once: a larger graph is run in pieces, which only the
            backend of the CPU takes. None opens it as users do, whatever its size.

    Raises:
        InputError: it cannot be opened.
    """
    from jisu.runtimes.backends.backend_options import BackendOptions
    from jisu.runtimes.backends.ort_cpu.backend import OrtCpuBackend, open_ort_cpu
    from jisu.runtimes.backends.registry import open_backend

    session = _in_pieces(artifact, threads=threads, open_bytes=open_bytes)
    if session is None:
        return open_backend(backend, artifact, BackendOptions(threads=threads))
    assert backend == OrtCpuBackend.name, "the caller knows which backend runs pieces"
    return open_ort_cpu(artifact, threads=threads, source=None, session=session)


def open_unrounded(artifact: Artifact, graph: ir.Model, *, open_bytes: int | None = None) -> Backend:
    """A graph whose weights lie in the artifact's folder, with the artifact's signature; on the CPU, nothing rounded.

    Args:
        open_bytes: see `open_candidate`.

    Raises:
        InputError: it does not have the manifest's signature.
    """
    import onnx_ir as ir

    from jisu.runtimes.backends.forks import Reopened
    from jisu.runtimes.backends.ort_cpu.backend import OrtCpuBackend
    from jisu.runtimes.backends.row_lengths import closed

    made, facts = artifact.manifest, artifact.manifest.model
    # ONNX Runtime makes MatMulNBits of its own of standard operators, and would round their inputs.
    settings = {_ROUNDS_INPUTS: "1"}

    def opened() -> Any:
        return open_graph(ir.to_proto(graph), folder=artifact.folder, open_bytes=open_bytes, settings=settings)

    session = Reopened(opened, partial(closed, OrtCpuBackend.name))
    return OrtCpuBackend(session, made.signature, vocab_size=facts.vocab_size, max_positions=facts.max_positions)


def open_graph(
    model: onnx.ModelProto,
    *,
    folder: Path,
    open_bytes: int | None,
    keeps_half: bool = False,
    threads: int | None = None,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """A session for a graph in memory whose weights lie in files of a folder, in pieces where it is too large.

    Args:
        open_bytes: see `open_candidate`.
        keeps_half, threads, settings: see `runtimes.backends.ort.session.open_model`.

    Raises:
        InputError: the graph is damaged.
    """
    from jisu.runtimes.backends.ort.session import GIVES_BACK, open_model

    opens = partial(open_model, folder=folder, threads=threads, keeps_half=keeps_half, settings=settings)
    if open_bytes is None:
        return opens(model)
    most = _most(open_bytes, keeps_half=keeps_half)
    if opened_bytes(model, keeps_half=keeps_half) <= most:
        return opens(model)
    last_call = GIVES_BACK if keeps_half else {}
    return SessionInPieces(model, opens, open_bytes=most, keeps_half=keeps_half, last_call=last_call)


def _most(open_bytes: int, *, keeps_half: bool) -> int:
    """Bytes of opened weights in memory at once."""
    return min(open_bytes, MAPPED_BYTES) if keeps_half else open_bytes


def describe_pieces(artifact: Artifact, open_bytes: int) -> str | None:
    """One sentence about a graph that `open_candidate` runs in pieces; None of one that it opens as a whole."""
    whole, most = opened_size(artifact), _most(open_bytes, keeps_half=_keeps_half(artifact))
    if whole <= most:
        return None
    return (
        f"The graph ran in pieces: opened it takes {whole / 1e9:.1f} GB, of which {most / 1e9:.1f} GB may be "
        "in memory. What ONNX Runtime fuses across two pieces ran apart."
    )


def opened_size(artifact: Artifact) -> int:
    """Bytes of memory that the artifact's graph takes when it is opened as a whole; about."""
    import onnx

    model = onnx.load(artifact.cpu_graph, load_external_data=False)
    return opened_bytes(model, keeps_half=_keeps_half(artifact))


def open_layers(artifact: Artifact, open_bytes: int) -> OpenGraph:
    """Opens the artifact's graph with its layers as further outputs, as large as `open_candidate` opens it."""
    return partial(open_graph, open_bytes=open_bytes, keeps_half=_keeps_half(artifact))


def _keeps_half(artifact: Artifact) -> bool:
    from jisu.runtimes.backends.ort_cpu.backend import keeps_half

    return keeps_half(artifact)


def _in_pieces(artifact: Artifact, *, threads: int | None, open_bytes: int | None) -> Reopened | None:
    """A session of the artifact's graph that runs in pieces; None where it is opened as a whole."""
    import onnx

    from jisu.runtimes.backends.external_data import check_external_data
    from jisu.runtimes.backends.forks import Reopened
    from jisu.runtimes.backends.ort_cpu.backend import OrtCpuBackend
    from jisu.runtimes.backends.row_lengths import closed

    if open_bytes is None:
        return None
    check_external_data(artifact.cpu_graph)
    half, model = _keeps_half(artifact), onnx.load(artifact.cpu_graph, load_external_data=False)
    if opened_bytes(model, keeps_half=half) <= _most(open_bytes, keeps_half=half):
        return None
    folder = artifact.cpu_graph.parent
    opens = partial(open_graph, model, folder=folder, open_bytes=open_bytes, keeps_half=half, threads=threads)
    return Reopened(opens, partial(closed, OrtCpuBackend.name))


def open_image_reader(artifact: Artifact, backend: Backend) -> Any:
    """What makes prompts of images for a candidate, as a user's engine does."""
    from jisu.runtimes.model_text import ModelText
    from jisu.runtimes.shown.image_reader import ImageReader

    reading: Any = backend
    return ImageReader(artifact, reading, ModelText(artifact))


def open_recording_reader(artifact: Artifact, backend: Backend) -> Any:
    """What makes prompts of recordings for a candidate, as a user's engine does."""
    from jisu.runtimes.model_text import ModelText
    from jisu.runtimes.shown.recording_reader import RecordingReader

    reading: Any = backend
    return RecordingReader(artifact, reading, ModelText(artifact))


def open_candidate_one_pass(
    artifact: Artifact, backend: str = "ort-cpu", *, open_bytes: int | None = None
) -> OnePassBackend:
    """The same of a model that reads whole texts."""
    from jisu.runtimes.backends.ort_cpu.one_pass import open_ort_one_pass
    from jisu.runtimes.backends.registry import open_one_pass

    session = _in_pieces(artifact, threads=None, open_bytes=open_bytes)
    if session is None:
        return open_one_pass(backend, artifact)
    return open_ort_one_pass(artifact, threads=None, source=None, session=session)


def open_candidate_speech(artifact: Artifact, backend: str = "ort-cpu") -> SpeechBackend:
    """The same of a model that hears."""
    from jisu.runtimes.backends.registry import open_speech

    return open_speech(backend, artifact)


def refuse_unprovable() -> None:
    """Raise InputError where this CPU cannot run what is only right with VNNI, and so cannot verify it either."""
    from jisu.runtimes.machine.int8_sums import int8_sums_overflow

    if int8_sums_overflow():
        raise InputError(
            "An artifact for CPUs with VNNI cannot be verified on this one, whose int8 matmuls overflow",
            received="--assume-vnni",
            allowed=f"it on {WITH_VNNI}",
            fix="Leave it out: the artifact is then right on every CPU.",
        )
