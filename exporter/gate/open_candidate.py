"""Opens a written artifact as its users will: the one place where the exporter calls the runtimes.

The arrow points from runtimes to exporter; verifying what users will run is the step that looks back.
"""

from __future__ import annotations

import contextlib
from functools import partial
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.contract.backend import Backend
    from jisu.exporter.contract.one_pass_backend import OnePassBackend
    from jisu.exporter.contract.speech_backend import SpeechBackend

_ROUNDS_INPUTS = "session.qdq_matmulnbits_accuracy_level"
WITH_VNNI = "CPUs that add int8 products in 32 bits (VNNI, AMX, Arm)"


def open_candidate(artifact: Artifact, backend: str = "ort-cpu", *, threads: int | None = None) -> Backend:
    """The candidate's graph on a backend; close it after use.

    Raises:
        InputError: it cannot be opened.
    """
    from jisu.runtimes.backends.backend_options import BackendOptions
    from jisu.runtimes.backends.registry import open_backend

    return open_backend(backend, artifact, BackendOptions(threads=threads))


def open_unrounded(artifact: Artifact, graph: ir.Model) -> Backend:
    """A graph whose weights lie in the artifact's folder, with the artifact's signature; on the CPU, nothing rounded.

    Raises:
        InputError: it does not have the manifest's signature.
    """
    import onnx_ir as ir

    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime
    from jisu.runtimes.backends.forks import Reopened
    from jisu.runtimes.backends.ort.session import PROVIDER
    from jisu.runtimes.backends.ort.unpacked_codes import WEIGHTS_IN, hold_room, unpack_codes
    from jisu.runtimes.backends.ort_cpu.backend import OrtCpuBackend
    from jisu.runtimes.backends.row_lengths import closed

    onnxruntime = import_onnxruntime()
    made = artifact.manifest

    def opened() -> Any:
        options = onnxruntime.SessionOptions()
        options.log_severity_level = 3
        options.enable_mem_pattern = False
        options.enable_cpu_mem_arena = False  # which would keep what the longest call took
        options.add_session_config_entry(WEIGHTS_IN, str(artifact.folder))
        # ONNX Runtime makes MatMulNBits of its own of standard operators, and would round their inputs.
        options.add_session_config_entry(_ROUNDS_INPUTS, "1")
        proto = ir.to_proto(graph)
        room = unpack_codes(proto, artifact.folder, options)
        with contextlib.nullcontext() if room is None else room.given_back():
            session = onnxruntime.InferenceSession(proto.SerializeToString(), options, providers=[PROVIDER])
        if room is not None:
            hold_room(session, room)
        return session

    facts = made.model
    session = Reopened(opened, partial(closed, OrtCpuBackend.name))
    return OrtCpuBackend(session, made.signature, vocab_size=facts.vocab_size, max_positions=facts.max_positions)


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


def open_candidate_one_pass(artifact: Artifact, backend: str = "ort-cpu") -> OnePassBackend:
    """The same of a classifier."""
    from jisu.runtimes.backends.registry import open_one_pass

    return open_one_pass(backend, artifact)


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
