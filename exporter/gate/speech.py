"""What the gate asks a model that says what it hears: its features, its encoder in a batch, and its answers.

The answers are judged as those about a text are, see `exporter.gate.conditioned`: the first token of every sequence
chooses a recording by its number.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import cycle
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.conditioned import numbered, numbered_windows, started
from jisu.exporter.gate.domain_tokens import Judged, TokenIds
from jisu.exporter.gate.prompts import GatePrompts
from jisu.exporter.gate.recordings import Recording, Samples
from jisu.exporter.gate.result import Check

if TYPE_CHECKING:
    from jisu.exporter.contract.speech_backend import Heard, SpeechBackend, TranscribingBackend
    from jisu.exporter.gate.reference import TorchReference
    from jisu.exporter.sources.audio import AudioSource

# How far a feature may be from the extractor's, as a share of the spread of all: float32 sums in another order.
# Measured 1e-4 at most; another window, filter or scale is off by more than a tenth.
CLOSE = 2e-3
# How far the encoder's output for a recording in a batch may be from the same alone, as a share of its spread.
TOGETHER = 2e-3
UNIT = "share of spread"
# Tokens that are said of each recording.
_SAID = 8
# Windows of held-out text of each domain, and tokens of each: what is said in half a minute is as short, and every
# position has as many logits as the vocabulary has tokens.
_WINDOWS, _WINDOW = 2, 96


class Recordings(Sequence[Any]):
    """Recordings as the candidate's encoder has read them, each read when it is first asked for."""

    def __init__(self, backend: TranscribingBackend, features: Sequence[Samples]) -> None:
        self._backend, self._features = backend, features
        self._heard: dict[int, Heard] = {}

    def __len__(self) -> int:
        return len(self._features)

    def __getitem__(self, number: Any) -> Any:
        if number not in self._heard:
            self._heard[number] = self._backend.listen(self._features[number])
        return self._heard[number]


class HeardReference:
    """`Reference` of such sequences: the source model's own forward over a recording's features and an answer.

    Its encoder reads each recording once; what it makes of it is what its decoder is then given.
    """

    def __init__(self, reference: TorchReference, features: Sequence[Samples], *, input_name: str, start: int) -> None:
        self.vocab_size = reference.vocab_size
        self.description = reference.description
        self._reference, self._features = reference, features
        self._input_name, self._start = input_name, start
        self._encoded: dict[int, Any] = {}

    def logits(self, token_ids: TokenIds, positions: slice | None = None) -> npt.NDArray[np.float32]:
        import torch

        number = int(token_ids[0])
        answer = started(token_ids[None], self._start)
        with self._reference.stock() as module:
            if number not in self._encoded:
                read = torch.from_numpy(self._features[number])
                self._encoded[number] = module.get_encoder()(**{self._input_name: read})
            output = module(
                encoder_outputs=self._encoded[number], decoder_input_ids=torch.from_numpy(answer), use_cache=False
            )
            logits: npt.NDArray[np.float32] = output.logits[0, positions or slice(None)].float().numpy()
        return logits


def condition_on(prompts: GatePrompts, recordings: Sequence[Recording], *, together: int | None = None) -> GatePrompts:
    """Turn a choice of sequences into one of answers about recordings, which are numbered as they come.

    The long sequence is about the first one, the short rows about the first three, the windows about all in turn; and
    of each recording a few tokens are said.

    Args:
        together: how many recordings, the first ones, may be in one batch; all of them when None.
    """
    said = prompts.sequence[:_SAID]
    together = len(recordings) if together is None else min(together, len(recordings))
    return replace(
        prompts,
        sequence=numbered(prompts.sequence, 0),
        rows=tuple(numbered(row, index % together) for index, row in enumerate(prompts.rows)),
        # Nothing said yet, and something said already.
        greedy=(
            *(np.array([index], np.int64) for index in range(min(2, together))),
            numbered(prompts.greedy[-1], 0),
        ),
        judged=numbered_windows(_shorter(prompts.judged), cycle(range(together))),
        further=tuple(
            (f"recording-{recording.name}", numbered(said, index)) for index, recording in enumerate(recordings)
        ),
        far=None if prompts.far is None else numbered(prompts.far, 0),
        text=f"about {len(recordings)} recordings: {prompts.text}",
    )


def _shorter(judged: Judged) -> Judged:
    """The first windows of each domain, and their beginnings."""
    domains = [
        replace(domain, windows=tuple(window[:_WINDOW] for window in domain.windows[:_WINDOWS]))
        for domain in judged.domains
    ]
    return replace(judged, domains=tuple(domains))


def check_features(backend: SpeechBackend, audio: AudioSource, recordings: Sequence[Recording]) -> Check:
    """Compare what the candidate makes of sound with what the checkpoint's own feature extractor makes of it."""
    truths = [audio.features(recording.samples) for recording in recordings]
    spread = max(float(np.concatenate([truth.ravel() for truth in truths]).std()), 1e-6)
    errors = []
    for recording, truth in zip(recordings, truths, strict=True):
        made = backend.features(audio.filled(recording.samples))
        if made.shape != truth.shape:
            raise ValueError(
                f"features of shape {list(made.shape)} of {recording.name} where {list(truth.shape)} is expected"
            )
        error = float(np.abs(made.astype(np.float64) - truth).max()) / spread
        errors.append(error if np.isfinite(made).all() else float("nan"))
    worst = int(np.argmax([np.inf if np.isnan(error) else error for error in errors]))
    passed, name = bool(errors[worst] <= CLOSE), recordings[worst].name
    detail = f"{len(recordings)} recordings, the worst of them {name}: {errors[worst]:.3g} of the spread."
    return Check(name="features", passed=passed, value=errors[worst], limit=CLOSE, unit=UNIT, detail=detail)


def check_together(backend: TranscribingBackend, features: Sequence[Samples]) -> Check:
    """Compare what the encoder makes of recordings in one call with what it makes of each alone."""
    alone = [backend.listen(one) for one in features]
    together = backend.listen(np.concatenate(list(features)))
    worst = 0.0
    for name, tensors in together.tensors.items():
        for row, own in enumerate(alone):
            truth = own.tensors[name].astype(np.float64)
            spread = max(float(truth.std()), 1e-6)
            error = float(np.abs(tensors[row : row + 1] - truth).max()) / spread
            worst = error if not error <= worst else worst
    detail = f"{len(features)} recordings in one call of the encoder, {worst:.3g} of the spread from each alone."
    passed = bool(worst <= TOGETHER)
    return Check(name="heard-together", passed=passed, value=worst, limit=TOGETHER, unit=UNIT, detail=detail)
