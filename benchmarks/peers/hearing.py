"""A model that hears as a worker: recordings are files of samples, float32 [samples] at the model's rate."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.benchmarks.peers.worker import Hearing, UnsupportedError
from jisu.runtimes.speech.prompting import opening

if TYPE_CHECKING:
    from jisu.exporter.contract.artifact import ModelFacts
    from jisu.runtimes.speech.transcriber import Transcriber

# Of a model without a window: what it is asked for at once.
_LONGEST_SECONDS = 30


def hearing(transcriber: Transcriber, facts: ModelFacts) -> dict[str, Any]:
    """What a worker answers with one opened model, greedily: times, transcripts, and logits."""
    settings, backend = transcriber.settings, transcriber.backend

    def hear(files: list[str]) -> Hearing:
        step_seconds, sound_seconds = [], []
        for file in files:
            samples = np.load(file)
            started = time.perf_counter()
            transcriber.transcribe(samples, num_beams=1)
            step_seconds.append(time.perf_counter() - started)
            sound_seconds.append(len(samples) / settings.sampling_rate)
        return Hearing(step_seconds=step_seconds, sound_seconds=sound_seconds)

    def transcript(file: str) -> dict[str, Any]:
        samples = np.load(file)
        made = transcriber.transcribe(samples, num_beams=1)
        limit = settings.window or _LONGEST_SECONDS * settings.sampling_rate
        prompt: list[int] = []
        if settings.writes == "tokens":
            assert facts.decoder_start is not None, "a decoder says what its answers begin with"
            language = made.language
            prompt, _ = opening(
                settings,
                facts.decoder_start,
                language=language,
                translate=False,
                timestamps=False,
                find_language=lambda: str(language),
            )
        return {"text": made.text, "tokens": list(made.token_ids), "prompt": prompt, "whole": len(samples) <= limit}

    def write_logits(tokens: list[int], file: str, source: Any) -> None:
        """Logits of tokens said about a recording that fits into the window; of frames, which need none, of all."""
        samples = transcriber.filled(np.load(source))
        backend_of_any: Any = backend
        features = backend.features(samples)
        if settings.writes == "frames":
            np.save(file, backend_of_any.frame_logits([features])[0])
            return
        if not tokens:
            raise UnsupportedError("nothing was said")
        # The last token of an answer that fills all positions was never read.
        tokens = tokens[: facts.max_positions]
        state = backend_of_any.encode([backend_of_any.listen(features)], capacity=len(tokens))
        np.save(file, backend_of_any.forward(np.array([tokens], np.int64), state, logits="all")[0])

    return {"hear": hear, "transcript": transcript, "write_logits": write_logits}
