"""Models that hear on ONNX Runtime's CPU provider: sound to features, features to frames or to a decoder's state."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import AUDIO_GRAPH, Artifact
from jisu.exporter.contract.audio_settings import read_audio_settings
from jisu.exporter.contract.backend import Logits, State, TokenIds, WantedLogits
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import LOGITS, Signature
from jisu.exporter.contract.speech_backend import Features, Heard, Samples
from jisu.runtimes.backends.encoder_decoder import EncoderDecoderBackend
from jisu.runtimes.backends.forks import Reopened
from jisu.runtimes.backends.host_state import HostState
from jisu.runtimes.backends.ort.kernels import check_kernels
from jisu.runtimes.backends.ort.session import PROVIDER
from jisu.runtimes.backends.ort.signature import check_encoder_session, check_frames_session
from jisu.runtimes.backends.ort_cpu.backend import OrtCpuBackend, open_again
from jisu.runtimes.backends.out_of_memory import catch_out_of_memory
from jisu.runtimes.backends.row_lengths import States

NAME = OrtCpuBackend.name


def open_ort_speech(artifact: Artifact, *, threads: int | None, source: Any) -> OrtTranscriber | OrtFrames:
    """Open an artifact's graphs; ``source`` is not needed.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: a graph is damaged, keeps weights elsewhere, does not have the manifest's signature, or needs
            kernels that this CPU does not have.
    """
    check_kernels(artifact)
    read_audio_settings(artifact.folder)
    sound = open_again(artifact.folder / AUDIO_GRAPH, threads=threads)
    session = open_again(artifact.cpu_graph, threads=threads)
    facts, signature = artifact.manifest.model, artifact.manifest.signature
    if not signature.encoded:
        check_frames_session(session.get(), signature, provider=PROVIDER)
        return OrtFrames(sound, session, signature, vocab_size=facts.vocab_size)
    decoder = OrtCpuBackend(session, signature, vocab_size=facts.vocab_size, max_positions=facts.max_positions)
    encoder = open_again(artifact.cpu_encoder, threads=threads)
    check_encoder_session(encoder.get(), signature, provider=PROVIDER)
    whole = EncoderDecoderBackend(
        decoder,
        partial(_new_state, signature, decoder.states),
        facts,
        longest=None,
        stack=_joined,
        close=encoder.close,
    )
    return OrtTranscriber(sound, encoder, whole, signature)


class OrtTranscriber:
    """See `exporter.contract.speech_backend.TranscribingBackend`."""

    name = NAME

    def __init__(self, sound: Reopened, encoder: Reopened, whole: EncoderDecoderBackend, signature: Signature) -> None:
        self._sound, self._encoder, self._whole, self._signature = sound, encoder, whole, signature
        self.vocab_size, self.max_positions = whole.vocab_size, whole.max_positions
        self.max_source_positions = None

    def features(self, samples: Samples) -> Features:
        return _features(self._sound, samples)

    def new_state(self, batch: int, capacity: int) -> State:
        return self._whole.new_state(batch, capacity)

    def listen(self, features: Features) -> Heard:
        names = [spec.past for spec in self._signature.encoded]
        with catch_out_of_memory(rows=len(features), tokens=features.shape[-1]):
            outputs = self._encoder.get().run(names, {self._signature.heard[0].name: features})
        return Heard(tensors=dict(zip(names, outputs, strict=True)))

    def encode(self, sources: Sequence[Heard], *, capacity: int, copies: int = 1) -> State:
        return self._whole.encode(sources, capacity=capacity, copies=copies)

    def forward(
        self, token_ids: TokenIds, state: State, *, new_lengths: TokenIds | None = None, logits: WantedLogits = "last"
    ) -> Logits:
        return self._whole.forward(token_ids, state, new_lengths=new_lengths, logits=logits)

    def close(self) -> None:
        self._sound.close()
        self._whole.close()


class OrtFrames:
    """See `exporter.contract.speech_backend.FrameBackend`."""

    name = NAME

    def __init__(self, sound: Reopened, session: Reopened, signature: Signature, *, vocab_size: int) -> None:
        self._sound, self._session = sound, session
        self._input = signature.inputs[0].name
        self.vocab_size = vocab_size
        self.max_positions = None

    def features(self, samples: Samples) -> Features:
        return _features(self._sound, samples)

    def frame_logits(self, features: Sequence[Features]) -> npt.NDArray[np.float32]:
        batch = stacked(features)
        with catch_out_of_memory(rows=len(batch), tokens=batch.shape[-1]):
            logits: npt.NDArray[Any] = self._session.get().run([LOGITS], {self._input: batch})[0]
        return logits.astype(np.float32, copy=False)

    def close(self) -> None:
        self._sound.close()
        self._session.close()


def stacked(arrays: Sequence[Features]) -> Features:
    """Recordings as one batch, float32 [B, ...].

    Raises:
        InputError: none, or some of other shapes.
    """
    shapes = {one.shape[1:] for one in arrays}
    if len(shapes) != 1:
        raise InputError(
            "These recordings cannot be read together",
            received=f"{len(shapes)} lengths" if arrays else "no recording",
            allowed="one recording, or several of one length",
            fix="Give them one after the other.",
        )
    return np.ascontiguousarray(np.concatenate(list(arrays)), np.float32)


def _features(sound: Reopened, samples: Samples) -> Features:
    batch = np.ascontiguousarray(samples, np.float32)[None]
    with catch_out_of_memory(rows=1, tokens=batch.shape[1]):
        features: Features = sound.get().run(None, {"audio": batch})[0]
    return features


def _joined(sources: Sequence[Heard]) -> tuple[dict[str, Features], None]:
    """What was heard as one batch; there is no padding, and so no mask."""
    names = list(sources[0].tensors) if sources else []
    return {name: stacked([source.tensors[name] for source in sources]) for name in names}, None


def _new_state(
    signature: Signature, states: States, heard: dict[str, Features], mask: None, *, capacity: int, copies: int
) -> HostState:
    """A state about recordings; arguments behind the second as `runtimes.backends.encoder_decoder.Encode` has them."""
    rows = copies * max((len(tensor) for tensor in heard.values()), default=0)
    with catch_out_of_memory(rows=rows, tokens=capacity):
        if copies > 1:
            heard = {name: np.repeat(tensor, copies, axis=0) for name, tensor in heard.items()}
        return states.add(HostState(signature.state, batch=rows, capacity=capacity, encoded=heard, copies=copies))
