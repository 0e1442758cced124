from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.runtimes.backends.backend_options import BackendOptions
from jisu.runtimes.backends.registry import BACKENDS, imported, open_backend, register_backend
from tests.runtimes.tiny_models import ListBackend, write_artifact


def open_list(artifact: Artifact, *, threads: int | None, source: str | None) -> ListBackend:
    return ListBackend()


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return write_artifact(tmp_path / "a", "ort-cpu")


@pytest.fixture
def registered() -> Iterator[str]:
    register_backend("list", f"{__name__}:open_list", extra="cpu", targets=["ort-cpu"])
    yield "list"
    del BACKENDS["list"]


def test_an_unknown_name_lists_the_known_ones(artifact: Artifact) -> None:
    with pytest.raises(
        InputError, match=r"ort_cpu.*ort-cpu, ort-cuda, tensorrt, tensorrt-rtx, torch.*Did you mean ort-cpu"
    ):
        open_backend("ort_cpu", artifact)


def test_a_source_that_nothing_reads_is_refused(artifact: Artifact, registered: str) -> None:
    for name in ("ort-cpu", registered):
        with pytest.raises(InputError, match=r"does not use --source.*weights\.gguf.*--backend torch"):
            open_backend(name, artifact, BackendOptions(source="weights.gguf"))


def test_every_backend_can_be_imported() -> None:
    for entry in BACKENDS.values():
        assert callable(imported(entry.opener))
        assert entry.one_pass_opener is not None
        assert callable(imported(entry.one_pass_opener))


def test_an_outsider_is_opened_by_name(registered: str, artifact: Artifact) -> None:
    assert open_backend(registered, artifact).name == "list"


def test_a_name_is_taken_once(registered: str) -> None:
    with pytest.raises(InputError, match="taken"):
        register_backend(registered, "a:b", extra="cpu", targets=[])


def test_an_artifact_of_another_target_is_refused(registered: str, tmp_path: Path) -> None:
    portable = write_artifact(tmp_path / "p", "portable")
    with pytest.raises(InputError, match=r"target portable.*--target ort-cpu"):
        open_backend(registered, portable)


@pytest.mark.parametrize("opener", ["no_colon", ":f", "m:"])
def test_an_opener_has_a_module_and_a_function(opener: str) -> None:
    with pytest.raises(InputError, match=r"package\.module:function"):
        register_backend("new", opener, extra="cpu", targets=[])


def test_an_opener_that_is_not_there_is_named() -> None:
    with pytest.raises(InputError, match="cannot be imported"):
        imported("jisu.runtimes.backends.registry:no_such_function")


def test_a_missing_package_says_what_to_install(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(MissingDependencyError, match=r"ort-cpu needs the package onnxruntime.*'jisu\[cpu\]'"):
        open_backend("ort-cpu", artifact)


def test_no_threads_are_refused(artifact: Artifact) -> None:
    with pytest.raises(InputError, match="threads"):
        open_backend("ort-cpu", artifact, BackendOptions(threads=0))


def test_torch_runs_the_module_of_the_source(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    from jisu.runtimes.backends.torch import backend as torch_module
    from tests.runtimes import tiny_models

    requests: list[Any] = []

    def open_module(artifact: Artifact, source: str | None) -> object:
        requests.append(source)
        return tiny_models.TinyModule()

    monkeypatch.setattr(tiny_models, "open_module", open_module, raising=False)
    monkeypatch.setattr(torch_module, "REFERENCE_OPENER", "tests.runtimes.tiny_models:open_module")
    assert open_backend("torch", artifact, BackendOptions(source="weights.gguf")).name == "torch"
    assert requests == ["weights.gguf"]


def test_torch_says_what_to_install(artifact: Artifact, monkeypatch: pytest.MonkeyPatch) -> None:
    from jisu.runtimes.backends.torch import backend as torch_module

    monkeypatch.setattr(torch_module, "REFERENCE_OPENER", "a_missing_package.reference:open")
    with pytest.raises(MissingDependencyError, match=r"a_missing_package.*pip install 'jisu\[export\]'"):
        open_backend("torch", artifact)


def test_nodes_on_the_processor_are_a_question_for_gpus_alone(artifact: Artifact) -> None:
    with pytest.raises(InputError, match="--allow-cpu-nodes.*ort-cuda.*Leave it out"):
        open_backend("ort-cpu", artifact, BackendOptions(allow_cpu_nodes=True))
