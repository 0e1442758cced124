"""An engine on a model with an encoder and a decoder: the same answers as transformers, in every way of asking."""

from __future__ import annotations

import importlib.util
import json
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import jisu
from jisu.exporter.contract.artifact import ENCODER, GRAPH, Artifact, hash_file, read_artifact
from jisu.exporter.contract.errors import InputError
from jisu.runtimes import Engine, load
from jisu.runtimes.backends.ort_cuda.encoder import OrtCudaEncoderBackend
from jisu.runtimes.backends.tensorrt.encoder import open_encoder_decoder
from jisu.runtimes.backends.tensorrt.profiles import Shapes
from tests.runtimes.backends.tensorrt.artifacts import exported
from tests.runtimes.backends.tensorrt.pretended import ENCODER_PLAN, PLAN, Cuda, pretended_library
from tests.runtimes.pretended_gpu import pretended_onnxruntime

TEXTS = ["The quick brown fox.", "A language model guesses the next word.", "你好"]


def on_plans(artifact: Artifact) -> Any:
    shapes = Shapes(capacity=340, prompt=1, batch=9, source=340)
    return open_encoder_decoder(pretended_library(artifact), (PLAN, ENCODER_PLAN), artifact, shapes=shapes, cuda=Cuda())


ENGINES = [
    "ort-cpu",
    "torch",
    "ort-cuda, pretended",
    "tensorrt, pretended",
    pytest.param("ort-cuda", marks=pytest.mark.cuda),
    pytest.param("tensorrt", marks=pytest.mark.tensorrt),
]


@pytest.fixture(scope="module", params=ENGINES)
def engine(request: pytest.FixtureRequest, text_to_text_artifact: Artifact) -> Iterator[Engine]:
    if request.param == "ort-cuda, pretended":
        backend = OrtCudaEncoderBackend(pretended_onnxruntime(), text_to_text_artifact)
        with Engine(text_to_text_artifact, backend) as opened:
            yield opened
        return
    if request.param == "tensorrt, pretended":
        artifact = request.getfixturevalue("text_to_text_tensorrt")
        with Engine(artifact, on_plans(artifact)) as opened:
            yield opened
        return
    if request.param == "tensorrt":
        name = "tensorrt" if importlib.util.find_spec("tensorrt") else "tensorrt-rtx"
        folder = request.getfixturevalue("text_to_text_tensorrt").folder
        plans = str(request.getfixturevalue("tmp_path_factory").mktemp("plans"))
        # The rows of three beams for each of three texts.
        assert (
            jisu.main(["build", str(folder), "--backend", name, "--batch", "9", "--prompt", "340", "--out", plans]) == 0
        )
        with load(folder, backend=name, plan=Path(plans)) as opened:
            yield opened
        return
    with load(text_to_text_artifact.folder, backend=request.param, threads=1) as opened:
        yield opened


@pytest.fixture(scope="module")
def source(text_to_text_source: Path) -> tuple[Any, Any]:
    import torch
    from transformers import AutoModelForSeq2SeqLM, AutoTokenizer

    folder = str(text_to_text_source)
    model = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).eval()
    return model, AutoTokenizer.from_pretrained(folder)


def test_answers_are_those_of_transformers(engine: Engine, source: tuple[Any, Any]) -> None:
    model, tokenizer = source
    ours = engine.generate(TEXTS, max_new_tokens=12)
    for text, result in zip(TEXTS, ours, strict=True):
        theirs = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=12, do_sample=False)[0, 1:]
        assert list(result.token_ids) == theirs.tolist()
        assert result.text == tokenizer.decode(theirs, skip_special_tokens=True)
        assert result.prompt_tokens == len(tokenizer(text).input_ids)
        # Its settings end an answer that is cut off.
        assert (result.token_ids[-1], result.finish_reason) == (1, "eos")


def test_beams_find_what_transformers_finds(engine: Engine, source: tuple[Any, Any]) -> None:
    model, tokenizer = source
    ours = engine.generate(TEXTS, max_new_tokens=10, num_beams=3)
    for text, result in zip(TEXTS, ours, strict=True):
        theirs = model.generate(**tokenizer(text, return_tensors="pt"), max_new_tokens=10, do_sample=False, num_beams=3)
        assert list(result.token_ids) == theirs[0, 1:].tolist()


def test_a_batch_gives_what_each_text_gives_alone(engine: Engine) -> None:
    together = engine.generate(TEXTS, max_new_tokens=9, temperature=0.8, seed=5)
    for text, row in zip(TEXTS, together, strict=True):
        assert engine.generate(text, max_new_tokens=9, temperature=0.8, seed=row.seed).token_ids == row.token_ids
    greedy = engine.generate(TEXTS, max_new_tokens=9)
    assert [row.token_ids for row in greedy] == [engine.generate(text, max_new_tokens=9).token_ids for text in TEXTS]


def test_a_stream_is_the_answer_in_pieces(engine: Engine) -> None:
    stream = engine.stream(TEXTS[1], max_new_tokens=9)
    text = "".join(stream)
    assert text == stream.result.text == engine.generate(TEXTS[1], max_new_tokens=9).text
    searched = engine.stream(TEXTS[1], max_new_tokens=9, num_beams=2)
    assert len(list(searched)) <= 1
    assert searched.result.timings.time_to_first_token > 0


def test_rows_of_a_state_change_places_with_their_sources(engine: Engine) -> None:
    backend: Any = engine.backend
    sources = [engine.tokenize(text) for text in TEXTS]
    state = backend.encode(sources, capacity=4)
    first = backend.forward(np.full((3, 1), 2), state).copy()
    state.reorder(np.array([2, 0, 0]))
    state.rewind(np.zeros(3, np.int64))
    np.testing.assert_allclose(backend.forward(np.full((3, 1), 2), state), first[[2, 0, 0]], rtol=1e-4, atol=1e-5)
    assert state.lengths.tolist() == [1, 1, 1]


@pytest.mark.parametrize("target", ["ort-cuda", "tensorrt"])
def test_states_in_bfloat16_which_numpy_has_not_change_places(target: str, tmp_path: Path) -> None:
    artifact = exported(tmp_path, "marian", "bf16", target=target)
    assert {spec.dtype for spec in artifact.manifest.signature.written} == {"bfloat16"}
    backend: Any = OrtCudaEncoderBackend(pretended_onnxruntime(), artifact) if target == "ort-cuda" else None
    backend = backend or on_plans(artifact)
    state = backend.encode([[5, 6, 7], [9, 1]], capacity=4, copies=2)
    tokens = np.array([[2], [8], [2], [4]])
    backend.forward(np.full((4, 1), 2), state)
    first = backend.forward(tokens, state).copy()
    order = np.array([3, 1, 0, 0])
    state.reorder(order)
    state.rewind(np.ones(4, np.int64))
    # The keys and values of the first token are the moved rows', and so are the sources.
    np.testing.assert_array_equal(backend.forward(tokens[order], state), first[order])
    assert len(np.unique(first, axis=0)) == 4
    backend.close()


def test_chunks_of_unequal_lengths_on_unequal_pasts(engine: Engine) -> None:
    backend: Any = engine.backend
    sources = [engine.tokenize(text) for text in TEXTS[:2]]
    answers = [[2, 9, 8, 7, 6, 5, 4], [2, 30, 31, 32]]
    state = backend.encode(sources, capacity=7)
    backend.forward(np.array([[2, 9, 8], [2, 2, 2]]), state, new_lengths=np.array([3, 1]))
    actual = backend.forward(
        np.array([[7, 6, 5, 4], [30, 31, 32, 0]]), state, new_lengths=np.array([4, 3]), logits="all"
    ).copy()
    for row, count in ((0, 4), (1, 3)):
        alone = backend.encode([sources[row]], capacity=7)
        expected = backend.forward(np.array([answers[row]]), alone, logits="all")[0, -count:]
        np.testing.assert_allclose(actual[row, :count], expected, rtol=1e-4, atol=1e-5)


def test_what_makes_no_sense_on_it_is_refused(engine: Engine) -> None:
    with pytest.raises(InputError, match="holds no conversation"):
        engine.chat([{"role": "user", "content": "Hello"}])
    with pytest.raises(InputError, match="holds no conversation"):
        engine.generate("Hello", chat=True)
    with pytest.raises(InputError, match="cannot score a text without its source"):
        engine.score("Hello")
    with pytest.raises(InputError, match="needs a source, and the state has none"):
        engine.backend.new_state(1, 4)
    with pytest.raises(InputError, match="The prompt is empty"):
        engine.generate(" ")
    with pytest.raises(InputError, match="is empty.*0 tokens"):
        engine.generate_ids([[]])
    with pytest.raises(InputError, match="Prompt 1 is too long for this model to read.*341 tokens.*1 to 340"):
        engine.generate_ids([[5], [5] * 341])
    with pytest.raises(InputError, match="not in the vocabulary"):
        engine.generate_ids([[5, 384]])
    with pytest.raises(InputError, match="past the model's positions"):
        engine.generate_ids([[5]], max_new_tokens=340)


def test_a_bias_of_the_callers_lifts_a_suppression(
    text_to_text_artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    with load(text_to_text_artifact.folder) as engine:
        best = engine.generate(TEXTS[0], max_new_tokens=3).token_ids[0]
        monkeypatch.setattr(engine.generator, "settings", {"suppress_tokens": [best]})
        assert engine.generate(TEXTS[0], max_new_tokens=3).token_ids[0] != best
        lifted = engine.generate(TEXTS[0], max_new_tokens=3, logit_bias={best: 0.0})
        assert lifted.token_ids[0] == best


@pytest.fixture
def altered(text_to_text_artifact: Artifact, tmp_path: Path) -> Any:
    """A copy of the artifact after an edit of its folder and manifest."""

    def make(edit: Any) -> Path:
        folder = tmp_path / "copy"
        shutil.copytree(text_to_text_artifact.folder, folder)
        manifest = json.loads((folder / "manifest.json").read_text())
        edit(folder, manifest)
        (folder / "manifest.json").write_text(json.dumps(manifest))
        return folder

    return make


def test_a_missing_encoder_is_damage(altered: Any) -> None:
    folder = altered(lambda folder, manifest: (folder / ENCODER).unlink())
    with pytest.raises(InputError, match="encoder.onnx is missing"):
        read_artifact(folder)


def without_file(folder: Path, manifest: dict[str, Any]) -> None:
    del manifest["files"][ENCODER]


def without_start(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["model"]["decoder_start"] = None


def of_another_task(folder: Path, manifest: dict[str, Any]) -> None:
    manifest["task"] = "text-generation"


@pytest.mark.parametrize("edit", [without_file, without_start, of_another_task])
def test_a_manifest_that_contradicts_itself_is_refused(altered: Any, edit: Any) -> None:
    with pytest.raises(InputError, match="tell of an encoder, .* of none"):
        read_artifact(altered(edit))


def exchanged(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / GRAPH).rename(folder / "third")
    (folder / ENCODER).rename(folder / GRAPH)
    (folder / "third").rename(folder / ENCODER)
    for name in (GRAPH, ENCODER):
        manifest["files"][name] = {"size": (folder / name).stat().st_size, "sha256": hash_file(folder / name)}


def test_exchanged_graphs_are_noticed(altered: Any) -> None:
    with pytest.raises(InputError, match="does not have the signature of its manifest"):
        load(altered(exchanged))


def doubled(folder: Path, manifest: dict[str, Any]) -> None:
    shutil.copy(folder / GRAPH, folder / ENCODER)
    manifest["files"][ENCODER] = manifest["files"][GRAPH]


def test_a_decoder_in_the_encoders_place_is_noticed(altered: Any) -> None:
    with pytest.raises(InputError, match="The encoder's graph does not have the signature.*encoder_state.0.key"):
        load(altered(doubled))
