"""Tokens behind an image: the artifact's logits in fp32 are those of the source, as transformers runs it."""

from __future__ import annotations

import numpy as np
import pytest

import jisu
from jisu.benchmarks.compare.feeding import feeder
from jisu.benchmarks.compare.image_sets import image_sets
from jisu.benchmarks.compare.inputs import write_inputs
from jisu.benchmarks.compare.workloads import WORKLOADS
from jisu.benchmarks.peers.seeing import logits_behind, seeing, source_logits
from jisu.exporter.contract.artifact import IMAGE_TEXT
from jisu.exporter.gate.images import image_reference
from jisu.exporter.gate.prompts import gate_prompts
from jisu.exporter.sources import load_source


@pytest.fixture(scope="module")
def opened(image_artifact):
    checkpoint, artifact = image_artifact("idefics3")
    with jisu.load(artifact.folder) as engine:
        yield engine, load_source(checkpoint)


def test_logits_behind_an_image_are_the_sources(opened, tmp_path):
    engine, source = opened
    inputs = write_inputs((), engine.artifact, tmp_path)
    facts = engine.artifact.manifest.model
    sets = image_sets(gate_prompts(None, facts.vocab_size, facts.max_positions), engine.artifact, inputs)
    (texts,) = sets.texts.values()
    tokens, about = sets.inputs_for(texts[0][:12])
    assert about["images"][0] in [one.file for one in inputs]
    truth = source_logits(image_reference(source.vision), about, tokens.tolist())
    ours = logits_behind(engine.generator.beside, about["text"], about["images"], tokens.tolist())
    assert ours.shape == truth.shape == (12, facts.vocab_size)
    assert np.abs(ours - truth).max() < 2e-3 * truth.std()
    # That the image is read at all: another one gives other logits.
    other = next(one.file for one in inputs if one.file != about["images"][0])
    turned = logits_behind(engine.generator.beside, about["text"], [other], tokens.tolist())
    assert np.abs(turned - truth).max() > 2e-2 * truth.std()


def test_a_prompt_with_images_is_answered_and_its_reading_timed(opened, tmp_path):
    engine, _ = opened
    inputs = write_inputs((), engine.artifact, tmp_path)
    workload = WORKLOADS[IMAGE_TEXT]["two-images"]
    prompt, images = feeder(engine.artifact, inputs, tmp_path)(workload, 0)
    assert (len(prompt), len(images), prompt[0] == prompt[1]) == (2 + workload.prompt_tokens, 2, True)
    made = seeing(engine)["describe"](prompt, images, 3)
    assert [len(row) for row in made.tokens] == [3]
    assert len(made.step_seconds) == 3
    assert 0 < made.encode_seconds < made.step_seconds[0]
