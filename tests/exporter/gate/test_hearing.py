"""The checks of recordings against faults that are planted in a right candidate: each is seen by its own check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import GateRejectedError
from jisu.exporter.gate.exam import Exam, Truth
from jisu.exporter.gate.hearing import hearing_checks, hearing_exam
from jisu.exporter.gate.open_candidate import open_candidate, open_recording_reader
from jisu.exporter.gate.run import run_check
from jisu.exporter.gate.shown import compare_rows
from jisu.exporter.pipeline import export
from jisu.exporter.precision.budget import Budget
from jisu.exporter.sources import load_source
from tests.exporter.gate.shown_faults import (
    forgotten_in_decode,
    nothing_shown,
    one_place_off,
    rows_exchanged,
    rows_rolled,
)


@pytest.fixture(scope="module")
def parts(audio_artifact: Any) -> Any:
    checkpoint, artifact = audio_artifact("qwen2_audio")
    return artifact, load_source(checkpoint)


def failures(parts: Any, plant: Any) -> set[str]:
    """Names of the failed checks of the right candidate, changed by ``plant(backend, reader)``."""
    artifact, source = parts
    backend: Any = open_candidate(artifact)
    try:
        reader = open_recording_reader(artifact, backend)
        plant(backend, reader)
        budget = Budget(max_logit_error=2e-3)
        reference: Any = type("Reference", (), {"vocab_size": backend.vocab_size})()
        prompts: Any = None
        exam = Exam(backend=backend, truth=Truth(reference), prompts=prompts, budget=budget)
        steps = hearing_checks(hearing_exam(backend, reader, source.hearing, exam, exam), source.hearing)
        return {check.name for name, ask in steps for check in run_check(name, ask) if not check.passed}
    finally:
        backend.close()


def _change_inputs(reader: Any, change: Any) -> None:
    own = reader.inputs
    reader.inputs = lambda samples: change(own(samples))


def nothing_masked(backend: Any, reader: Any) -> None:
    _change_inputs(reader, lambda one: {**one, "feature_attention_mask": np.ones_like(one["feature_attention_mask"])})


def one_frame_fewer(backend: Any, reader: Any) -> None:
    def change(inputs: Any) -> Any:
        mask = inputs["feature_attention_mask"].copy()
        mask[0, mask.sum() - 1] = 0
        return {**inputs, "feature_attention_mask": mask}

    _change_inputs(reader, change)


def other_normalization(backend: Any, reader: Any) -> None:
    own = backend.recording_features
    backend.recording_features = lambda blocks: own(blocks) * 0.95 + 0.05


def a_sample_late(backend: Any, reader: Any) -> None:
    own = backend.recording_features
    backend.recording_features = lambda blocks: own(np.roll(blocks, 1, axis=1))


def one_token_fewer(backend: Any, reader: Any) -> None:
    own = backend.read_recording
    backend.read_recording = lambda inputs: own(inputs)[:-1]


def dropped_projection(backend: Any, reader: Any) -> None:
    own = backend.read_recording
    backend.read_recording = lambda inputs: own(inputs) * 0.9 + 0.05


def deaf(backend: Any, reader: Any) -> None:
    """Rows that do not depend on what is heard: two recordings exchanged are then not seen."""
    own = backend.read_recording
    backend.read_recording = lambda inputs: np.ones_like(own(inputs))


def marks_with_more(backend: Any, reader: Any) -> None:
    reader.settings = replace(reader.settings, marks={**reader.settings.marks, "after": "!"})


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (nothing_masked, "recording-sound"),
        (one_frame_fewer, "recording-sound"),
        (other_normalization, "recording-sound"),
        (a_sample_late, "recording-sound"),
        (one_token_fewer, "recording-lengths"),
        (dropped_projection, "recording-features"),
        (deaf, "recording-order"),
        (rows_rolled, "recording-prefill-two"),
        (one_place_off, "recording-prefill-voice"),
        (marks_with_more, "recording-tokens"),
        (forgotten_in_decode, "recording-chunks"),
        (rows_exchanged, "recording-batch"),
        (nothing_shown, "recording-prefill-short"),
    ],
)
def test_planted_faults_are_seen(parts: Any, fault: Any, seen: str) -> None:
    assert seen in failures(parts, fault)


def test_a_right_candidate_passes(parts: Any) -> None:
    assert failures(parts, lambda backend, reader: None) == set()


def test_what_hears_without_its_mask_is_not_published(
    parts: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, audio_artifact: Any
) -> None:
    """A graph whose frames see the silence behind a recording gives other rows for all but whole windows."""
    from jisu.exporter.tracing import trace_recordings

    own = trace_recordings.routed
    monkeypatch.setattr(trace_recordings, "routed", lambda model, name, **_: own(model, name))
    with pytest.raises(GateRejectedError, match="recording-features"):
        export(str(audio_artifact("qwen2_audio")[0]), out=tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize(
    ("noise", "stored", "passes"), [(0.01, "float32", False), (0.01, "float16", True), (0.1, "float16", False)]
)
def test_rounded_rows_have_a_limit_of_their_own(parts: Any, noise: float, stored: str, passes: bool) -> None:
    artifact, source = parts
    backend: Any = open_candidate(artifact)
    try:
        reader = open_recording_reader(artifact, backend)
        own, signs = reader.features, np.random.default_rng(0)

        def noisy(samples: Any) -> Any:
            rows = own(samples)
            return rows + signs.choice([-noise, noise], rows.shape) * rows.std()

        reader.features = noisy
        exam: Any = None
        examined = hearing_exam(backend, reader, source.hearing, exam, exam, stored=stored)
        assert compare_rows(examined, source.hearing.rows).passed is passes
    finally:
        backend.close()
