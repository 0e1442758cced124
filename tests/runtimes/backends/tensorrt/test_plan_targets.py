from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.tensorrt import plan_targets as module
from jisu.runtimes.backends.tensorrt.library import Library
from jisu.runtimes.backends.tensorrt.plan_targets import plan_targets
from jisu.runtimes.machine.gpu import Gpu, GpuProbe
from tests.runtimes.tiny_models import write_artifact

TENSORRT = Library(name="tensorrt", module=None)


def test_a_plan_of_tensorrt_is_named_for_the_gpu_that_is_here(monkeypatch):
    here = GpuProbe(devices=(Gpu(name="NVIDIA H200", memory=1, compute_capability=(9, 0)),))
    monkeypatch.setattr(module, "probe_gpus", lambda: here)
    assert plan_targets(TENSORRT, ()) == [("NVIDIA H200 sm90", None)]


def test_without_a_gpu_and_without_a_choice_there_is_nothing_to_build_for(monkeypatch):
    monkeypatch.setattr(module, "probe_gpus", lambda: GpuProbe(problem="no NVIDIA driver"))
    with pytest.raises(InputError, match="no NVIDIA driver.*--compute-capability 8.6"):
        plan_targets(TENSORRT, ())


def test_a_gpu_that_the_library_has_no_plans_for_is_named(rtx, monkeypatch):
    here = GpuProbe(devices=(Gpu(name="NVIDIA H200", memory=1, compute_capability=(9, 0)),))
    monkeypatch.setattr(module, "probe_gpus", lambda: here)
    with pytest.raises(InputError, match="NVIDIA H200, compute capability 9.0.*8.9.*--backend tensorrt"):
        plan_targets(rtx, ())


def test_plans_are_found_by_their_graph(tmp_path):
    artifact = write_artifact(tmp_path / "a", "portable")
    folder = module.default_folder(artifact)
    assert folder.parts[-3:-1] == ("jisu", "plans")
    assert artifact.manifest.files["model.onnx"].sha256.startswith(folder.name)
