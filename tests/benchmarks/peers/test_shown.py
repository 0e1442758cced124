"""Tokens behind an image or a recording: logits of an artifact in fp32 are the source's, as transformers runs it."""

from __future__ import annotations

import wave
from dataclasses import replace

import numpy as np
import pytest

import jisu
from jisu.benchmarks.compare.feeding import feeder
from jisu.benchmarks.compare.inputs import write_inputs
from jisu.benchmarks.compare.shown_sets import shown_sets
from jisu.benchmarks.compare.workloads import WORKLOADS
from jisu.benchmarks.peers.shown import logits_behind, showing, source_logits
from jisu.benchmarks.peers.worker import UnsupportedError
from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGE_TEXT
from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.hearing import recording_reference
from jisu.exporter.gate.images import image_reference
from jisu.exporter.gate.prompts import gate_prompts
from jisu.exporter.sources import load_source


@pytest.fixture(scope="module")
def opened(image_artifact):
    checkpoint, artifact = image_artifact("idefics3")
    with jisu.load(artifact.folder) as engine:
        yield engine, load_source(checkpoint)


@pytest.fixture(scope="module")
def hearing(audio_artifact):
    checkpoint, artifact = audio_artifact("qwen2_audio")
    with jisu.load(artifact.folder) as engine:
        yield engine, load_source(checkpoint)


def test_logits_behind_an_image_are_the_sources(opened, tmp_path):
    engine, source = opened
    inputs = write_inputs((), engine.artifact, tmp_path)
    facts = engine.artifact.manifest.model
    sets = shown_sets(gate_prompts(None, facts.vocab_size, facts.max_positions), engine.artifact, inputs)
    (texts,) = sets.texts.values()
    tokens, about = sets.inputs_for(texts[0][:12])
    assert about["shown"][0] in [one.file for one in inputs]
    truth = source_logits(image_reference(source.vision), about, tokens.tolist())
    ours = logits_behind(engine.generator.beside, about["text"], about["shown"], tokens.tolist())
    assert ours.shape == truth.shape == (12, facts.vocab_size)
    assert np.abs(ours - truth).max() < 2e-3 * truth.std()
    # That the image is read at all: another one gives other logits.
    other = next(one.file for one in inputs if one.file != about["shown"][0])
    turned = logits_behind(engine.generator.beside, about["text"], [other], tokens.tolist())
    assert np.abs(turned - truth).max() > 2e-2 * truth.std()


def test_a_prompt_with_images_is_answered_and_its_reading_timed(opened, tmp_path):
    engine, _ = opened
    inputs = write_inputs((), engine.artifact, tmp_path)
    workload = WORKLOADS[IMAGE_TEXT]["two-images"]
    prompt, images = feeder(engine.artifact, inputs, tmp_path)(workload, 0)
    assert (len(prompt), len(images), prompt[0] == prompt[1]) == (2 + workload.prompt_tokens, 2, True)
    made = showing(engine)["describe"](prompt, images, 3)
    assert [len(row) for row in made.tokens] == [3]
    assert len(made.step_seconds) == 3
    assert 0 < made.encode_seconds < made.step_seconds[0]


def test_logits_behind_a_recording_are_the_sources(hearing, tmp_path):
    engine, source = hearing
    inputs = write_inputs((), engine.artifact, tmp_path)
    assert len({np.load(one.file).shape for one in inputs}) == 1
    facts = engine.artifact.manifest.model
    sets = shown_sets(gate_prompts(None, facts.vocab_size, facts.max_positions), engine.artifact, inputs)
    (texts,) = sets.texts.values()
    tokens, about = sets.inputs_for(texts[0][:12])
    truth = source_logits(recording_reference(source.hearing), about, tokens.tolist())
    ours = logits_behind(engine.generator.beside, about["text"], about["shown"], tokens.tolist())
    assert np.abs(ours - truth).max() < 2e-3 * truth.std()
    other = next(one.file for one in inputs if one.file != about["shown"][0])
    turned = logits_behind(engine.generator.beside, about["text"], [other], tokens.tolist())
    assert np.abs(turned - truth).max() > 2e-2 * truth.std()


def test_a_prompt_with_recordings_is_answered_and_its_hearing_timed(hearing, tmp_path, monkeypatch):
    engine, _ = hearing
    inputs = write_inputs((), engine.artifact, tmp_path)
    prompt, files = feeder(engine.artifact, inputs, tmp_path)(WORKLOADS[AUDIO_TEXT]["two-recordings"], 0)
    describe = showing(engine)["describe"]
    made = describe(prompt, files, 3)
    assert made.sound_seconds == [pytest.approx(len(np.load(file)) / 16_000) for file in files]
    assert 0 < made.encode_seconds < made.step_seconds[0]
    reader = engine.generator.beside
    monkeypatch.setattr(reader, "settings", replace(reader.settings, most=1))
    with pytest.raises(UnsupportedError, match="takes 1 recording in one prompt"):
        describe(prompt, files, 3)


def test_a_recording_that_is_too_long_is_refused(hearing, tmp_path):
    engine, _ = hearing
    with wave.open(str(tmp_path / "talk.wav"), "wb") as file:
        file.setparams((1, 2, 16_000, 0, "NONE", ""))
        file.writeframes(bytes(2 * 16_000 * 3))
    with pytest.raises(InputError, match=r"talk\.wav is longer than the model hears"):
        write_inputs([tmp_path / "talk.wav"], engine.artifact, tmp_path)
