"""The checks of images against faults that are planted in a right candidate: each has to be seen, by its own check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from jisu.exporter.gate.exam import Exam, Truth
from jisu.exporter.gate.images import check_features, image_checks, image_exam
from jisu.exporter.gate.open_candidate import open_candidate, open_image_reader
from jisu.exporter.gate.run import run_check
from jisu.exporter.pipeline import export
from jisu.exporter.precision.budget import Budget
from jisu.exporter.sources import load_source
from tests.exporter.gate.shown_faults import (
    change_prompts,
    forgotten_in_decode,
    nothing_shown,
    one_place_off,
    rows_exchanged,
    rows_rolled,
)
from tests.support.image_models import write_image_model

EIGHT_BITS = "8 bits in blocks of 32"


@pytest.fixture(scope="module")
def parts(image_artifact: Any) -> Any:
    checkpoint, artifact = image_artifact("idefics3")
    return artifact, load_source(checkpoint)


@pytest.fixture(scope="module")
def sighted(image_artifact: Any) -> Any:
    """Of a model in which the tokens of an image see each other."""
    checkpoint, artifact = image_artifact("gemma3")
    return artifact, load_source(checkpoint)


def failures(parts: Any, plant: Any) -> set[str]:
    """Names of the failed checks of the right candidate, changed by ``plant(backend, reader)``."""
    artifact, source = parts
    backend: Any = open_candidate(artifact)
    try:
        reader = open_image_reader(artifact, backend)
        plant(backend, reader)
        budget = Budget(max_logit_error=2e-3)
        reference: Any = type("Reference", (), {"vocab_size": backend.vocab_size})()
        prompts: Any = None
        exam = Exam(backend=backend, truth=Truth(reference), prompts=prompts, budget=budget)
        steps = image_checks(image_exam(backend, reader, source.vision, exam, exam), source.vision)
        return {check.name for name, ask in steps for check in run_check(name, ask) if not check.passed}
    finally:
        backend.close()


def dropped_projection(backend: Any, reader: Any) -> None:
    own = backend.read_image
    backend.read_image = lambda inputs: own(inputs) * 0.9 + 0.05


def tiles_exchanged(backend: Any, reader: Any) -> None:
    own = reader.prepared

    def prepared(image: Any, *, name: str) -> Any:
        made = own(image, name=name)
        return replace(made, inputs={key: np.ascontiguousarray(array[::-1]) for key, array in made.inputs.items()})

    reader.prepared = prepared


def other_filter(backend: Any, reader: Any) -> None:
    reader.settings = replace(reader.settings, settings={**reader.settings.settings, "resample": 2})


def marks_without_lines(backend: Any, reader: Any) -> None:
    reader.settings = replace(reader.settings, marks={**reader.settings.marks, "line": ""})


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (rows_rolled, "image-prefill-two"),
        (dropped_projection, "image-features"),
        (one_place_off, "image-prefill-one-0"),
        (tiles_exchanged, "image-pixels"),
        (other_filter, "image-pixels"),
        (marks_without_lines, "image-tokens"),
        (forgotten_in_decode, "image-chunks"),
        (rows_exchanged, "image-batch"),
        (nothing_shown, "image-prefill-one-0"),
    ],
)
def test_planted_faults_are_seen(parts: Any, fault: Any, seen: str) -> None:
    assert seen in failures(parts, fault)


def test_a_right_candidate_passes(parts: Any) -> None:
    assert failures(parts, lambda backend, reader: None) == set()


def causal_in_images(backend: Any, reader: Any) -> None:
    change_prompts(backend, lambda one: replace(one, types=None))


def neighbour_seen(backend: Any, reader: Any) -> None:
    """All tokens from the first of an image to the last of another see each other."""

    def joined(one: Any) -> Any:
        shown = np.flatnonzero(one.types)
        types = np.zeros_like(one.types)
        types[shown[0] : shown[-1] + 1] = 1
        return replace(one, types=types)

    change_prompts(backend, joined)


def one_token_more(backend: Any, reader: Any) -> None:
    """The token before an image sees it."""
    change_prompts(backend, lambda one: replace(one, types=np.maximum(one.types, np.append(one.types[1:], 0))))


def text_as_images(backend: Any, reader: Any) -> None:
    reader.settings = replace(reader.settings, types={"image": 1, "text": 1})


@pytest.mark.parametrize(
    ("fault", "seen"),
    [
        (causal_in_images, "image-prefill-one-0"),
        (neighbour_seen, "image-prefill-two"),
        (one_token_more, "image-prefill-one-0"),
        (text_as_images, "image-tokens"),
    ],
)
def test_planted_faults_of_what_tokens_see_are_seen(sighted: Any, fault: Any, seen: str) -> None:
    assert seen in failures(sighted, fault)


def test_a_right_candidate_whose_images_see_themselves_passes(sighted: Any) -> None:
    assert failures(sighted, lambda backend, reader: None) == set()


def test_a_rejected_export_says_which(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A decoder graph that reads the row of features behind its own is not published."""
    from jisu.exporter.contract.errors import GateRejectedError
    from jisu.exporter.tracing import trace_images

    own = trace_images.add_image_inputs

    def off_by_one(graph: Any, *, deep: int = 0) -> None:
        own(graph, deep=deep)
        for node in graph:
            if node.op_type == "Sub" and node.inputs[0] is not None and node.inputs[0].name == "image_index":
                graph.initializers["image_1"].const_value = graph.initializers["image_0"].const_value

    monkeypatch.setattr(trace_images, "add_image_inputs", off_by_one)
    checkpoint = write_image_model(tmp_path / "source", "smolvlm")
    with pytest.raises(GateRejectedError, match="image-prefill"):
        export(str(checkpoint), out=tmp_path / "artifact")
    assert not (tmp_path / "artifact").exists()


@pytest.mark.parametrize(
    ("noise", "stored", "passes"), [(0.01, "float32", False), (0.1, EIGHT_BITS, True), (1.0, EIGHT_BITS, False)]
)
def test_rounded_features_have_a_limit_of_their_own(parts: Any, noise: float, stored: str, passes: bool) -> None:
    artifact, source = parts
    backend: Any = open_candidate(artifact)
    try:
        reader = open_image_reader(artifact, backend)
        own, signs = reader.features, np.random.default_rng(0)

        def noisy(image: Any) -> Any:
            rows = own(image)
            return rows + signs.choice([-noise, noise], rows.shape) * rows.std()

        reader.features = noisy
        exam: Any = None
        examined = image_exam(backend, reader, source.vision, exam, exam, stored=stored)
        assert check_features(examined, source.vision).passed is passes
    finally:
        backend.close()
