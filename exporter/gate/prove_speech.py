"""Runs the gate on a written artifact that hears; the other kinds are those of `exporter.gate.prove`."""

from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.gate.proving import progress_of, tokenizer_check_of
from jisu.exporter.gate.run import run_check

if TYPE_CHECKING:
    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.gate import Budget, GateResult
    from jisu.exporter.jobs.stages import Stages
    from jisu.exporter.sources.source import Source

# Recordings that the encoder reads in one call.
_TOGETHER = 2
# Recordings in a batch, of a model that reads as many samples as there are.
_ALIKE = 3


def prove_speech(
    artifact: Artifact, source: Source, *, budget: Budget, evaluation: str | None = None, stages: Stages | None = None
) -> GateResult:
    """Judge a model that says what it hears; arguments as for `exporter.gate.prove.prove`."""
    from jisu.exporter.gate import gate_prompts, run_gate
    from jisu.exporter.gate.conditioned import ConditionedBackend
    from jisu.exporter.gate.open_candidate import open_candidate_speech
    from jisu.exporter.gate.recordings import cut_alike, gate_recordings
    from jisu.exporter.gate.reference import TorchReference
    from jisu.exporter.gate.speech import HeardReference, Recordings, check_features, check_together, condition_on

    facts, audio = source.model, source.audio
    start = facts.decoder_start
    assert audio is not None and start is not None, "a source that writes down speech says how it hears and begins"
    recordings = gate_recordings(audio.settings.sampling_rate, audio.settings.window)
    drafted = gate_prompts(
        source.tokenizer,
        facts.vocab_size,
        facts.max_positions,
        evaluation=evaluation,
        judges_quality=budget.judges_quality,
        padding=facts.pad,
    )
    # An extractor that divides by a deviation makes no numbers of silence; what is made of it then, nobody can judge.
    recordings = tuple(one for one in recordings if np.isfinite(audio.features(one.samples)).all())
    together = None
    if audio.settings.window is None:
        together = _ALIKE
        recordings = cut_alike(recordings, together)
    prompts = condition_on(drafted, recordings, together=together)
    features = [audio.features(recording.samples) for recording in recordings]
    backend: Any = open_candidate_speech(artifact)
    try:
        checks = run_check("features", partial(check_features, backend, audio, recordings))
        if checks[0].passed and audio.settings.window is not None:
            checks += run_check("heard-together", partial(check_together, backend, features[:_TOGETHER]))
        result = run_gate(
            ConditionedBackend(backend, Recordings(backend, features), start=start),
            HeardReference(TorchReference(source.module), features, input_name=audio.settings.input_name, start=start),
            prompts=prompts,
            budget=budget,
            tokenizer_check=tokenizer_check_of(artifact, source),
            progress=progress_of(stages),
        )
    finally:
        backend.close()
    return replace(result, checks=(*checks, *result.checks))


def prove_frames(
    artifact: Artifact, source: Source, *, budget: Budget, evaluation: str | None = None, stages: Stages | None = None
) -> GateResult:
    """Judge a model that labels frames; arguments as for `exporter.gate.prove.prove`."""
    from jisu.exporter.gate.frames import run_frame_gate
    from jisu.exporter.gate.open_candidate import open_candidate_speech
    from jisu.exporter.gate.recordings import gate_recordings

    audio = source.audio
    assert audio is not None, "a source that labels frames says how it hears"
    backend: Any = open_candidate_speech(artifact)
    try:
        return run_frame_gate(
            backend,
            source,
            audio,
            recordings=gate_recordings(audio.settings.sampling_rate, audio.settings.window),
            budget=budget,
            tokenizer_check=tokenizer_check_of(artifact, source),
            progress=progress_of(stages),
        )
    finally:
        backend.close()
