from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

from exporter.errors import InputError
from exporter.signature import LOGITS_POSITIONS
from runtimes.gpu import Gpu, GpuProbe
from runtimes.registry import open_backend
from runtimes.tensorrt import opening, plan_targets
from tests.runtimes.tensorrt.pretended import PLAN, Cuda, pretended_library
from tests.runtimes.tiny_models import logits_of, write_artifact

HERE = GpuProbe(devices=(Gpu(name="NVIDIA H200", memory=1 << 37, compute_capability=(9, 0)),))


@pytest.fixture
def artifact(tmp_path):
    found = write_artifact(tmp_path / "a", "portable")
    signature = found.manifest.signature
    inputs = tuple(replace(one, dims=("B", "K")) if one.name == LOGITS_POSITIONS else one for one in signature.inputs)
    manifest = replace(found.manifest, target="tensorrt", signature=replace(signature, inputs=inputs))
    return replace(found, manifest=manifest)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_no_driver_is_told_before_anything_is_loaded(artifact, name, monkeypatch):
    monkeypatch.setattr(opening, "probe_gpus", lambda: GpuProbe(problem="no NVIDIA driver"))
    monkeypatch.setattr(opening, "import_library", lambda name: pytest.fail("imported"))
    with pytest.raises(InputError, match=f"{name} needs an NVIDIA GPU.*no NVIDIA driver.*--backend ort-cpu"):
        open_backend(name, artifact)


def test_a_plan_is_built_once_where_it_is_needed_and_run(artifact, monkeypatch, tmp_path):
    from runtimes.tensorrt import build

    library, builds = pretended_library(artifact), []
    monkeypatch.setattr(opening, "probe_gpus", lambda: HERE)
    monkeypatch.setattr(plan_targets, "probe_gpus", lambda: HERE)
    monkeypatch.setattr(opening, "import_library", lambda name: library)
    monkeypatch.setattr(opening, "default_folder", lambda artifact: tmp_path / "plans")
    monkeypatch.setattr(opening, "importlib", SimpleNamespace(import_module=lambda name: Cuda()))
    monkeypatch.setattr(build, "_build", lambda *given, **more: builds.append(more) or (PLAN, []))
    for _ in range(2):
        backend = open_backend("tensorrt", artifact)
        out = backend.forward(np.array([[3, 7, 1]]), backend.new_state(1, 8))
        np.testing.assert_allclose(out[0], logits_of([3, 7, 1])[-1:], rtol=2e-4, atol=2e-4)
        backend.close()
    assert len(builds) == 1
    assert builds[0]["capability"] is None
    assert [item.name for item in (tmp_path / "plans").glob("*.plan")] == ["tensorrt-nvidia-h200-sm90.plan"]
