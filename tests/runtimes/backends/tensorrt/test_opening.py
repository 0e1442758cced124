from __future__ import annotations

from types import SimpleNamespace

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes import load
from jisu.runtimes.backends.backend_options import BackendOptions
from jisu.runtimes.backends.registry import open_backend
from jisu.runtimes.backends.tensorrt import opening, plan_targets
from jisu.runtimes.backends.tensorrt.build import build_plan
from jisu.runtimes.backends.tensorrt.profiles import Shapes
from jisu.runtimes.machine.gpu import Gpu, GpuProbe
from tests.runtimes.backends.tensorrt.pretended import ENCODER_PLAN, PLAN, Cuda, pretended_library
from tests.runtimes.tiny_models import logits_of, write_artifact

HERE = GpuProbe(devices=(Gpu(name="NVIDIA H200", memory=1 << 37, compute_capability=(9, 0)),))


@pytest.fixture
def artifact(tmp_path):
    return write_artifact(tmp_path / "a", "tensorrt")


@pytest.fixture
def library(artifact, monkeypatch, tmp_path):
    """The library of a machine with a GPU, both pretended; what is built is counted in ``builds``."""
    return pretend(artifact, monkeypatch, tmp_path)


def pretend(artifact, monkeypatch, tmp_path):
    from jisu.runtimes.backends.tensorrt import build

    actual, builds = pretended_library(artifact), []

    def built(*arguments, **more):
        builds.append(more)
        return (ENCODER_PLAN if more["graph"].part else PLAN), []

    monkeypatch.setattr(opening, "probe_gpus", lambda: HERE)
    monkeypatch.setattr(plan_targets, "probe_gpus", lambda: HERE)
    monkeypatch.setattr(opening, "import_library", lambda name: actual)
    monkeypatch.setattr(opening, "default_folder", lambda artifact: tmp_path / "cache")
    monkeypatch.setattr(opening, "importlib", SimpleNamespace(import_module=lambda name: Cuda()))
    monkeypatch.setattr(build, "_build", built)
    return SimpleNamespace(library=actual, builds=builds)


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_no_driver_is_told_before_anything_is_loaded(artifact, name, monkeypatch):
    monkeypatch.setattr(opening, "probe_gpus", lambda: GpuProbe(problem="no NVIDIA driver"))
    monkeypatch.setattr(opening, "import_library", lambda name: pytest.fail("imported"))
    with pytest.raises(InputError, match=f"{name} needs an NVIDIA GPU.*no NVIDIA driver.*--backend ort-cpu"):
        open_backend(name, artifact)


def test_a_plan_is_built_once_where_it_is_needed_and_run(artifact, library, tmp_path, capsys):
    for _ in range(2):
        backend = open_backend("tensorrt", artifact, BackendOptions(capacity=32))
        out = backend.forward(np.array([[3, 7, 1]]), backend.new_state(1, 8))
        np.testing.assert_allclose(out[0], logits_of([3, 7, 1])[-1:], rtol=2e-4, atol=2e-4)
        backend.close()
    (build,) = library.builds
    assert capsys.readouterr().err == "tensorrt-nvidia-h200-sm90.plan.gz: building, since there is none yet\n"
    assert build["capability"] is None
    assert build["shapes"].capacity == 32
    assert [item.name for item in (tmp_path / "cache").glob("*.plan.gz")] == ["tensorrt-nvidia-h200-sm90.plan.gz"]


def test_a_plan_that_was_built_elsewhere_is_taken_as_it_is(artifact, library, tmp_path):
    plans = tmp_path / "plans"
    (target,) = plan_targets.plan_targets(library.library, ())
    shapes = Shapes(capacity=24, prompt=4, batch=2)
    built = build_plan(artifact, library.library, plans, target=target[0], capability=None, shapes=shapes)
    for place in (plans, built.path):
        with load(artifact.folder, "tensorrt", plan=place) as engine:
            assert engine.backend.max_positions == 24
            assert engine.backend.new_state(2, 24).capacity == 24
    assert len(library.builds) == 1
    assert not (tmp_path / "cache").exists()
    with pytest.raises(InputError, match="rows of another length.*--capacity 48.*24 tokens"):
        open_backend("tensorrt", artifact, BackendOptions(plan=plans, capacity=48))
    built.path.write_bytes(b"corrupted")
    with pytest.raises(InputError, match="cannot be used.*it has 9 bytes.*jisu build"):
        open_backend("tensorrt", artifact, BackendOptions(plan=plans))
    built.path.with_name(f"{built.path.name}.json").unlink()
    with pytest.raises(InputError, match="cannot be used.*its record .*missing.*Bring both files"):
        open_backend("tensorrt", artifact, BackendOptions(plan=plans))
    built.path.rename(plans / "tensorrt-rtx-sm89.plan.gz")
    with pytest.raises(InputError, match="a folder with tensorrt-rtx-sm89.plan.gz.*the GPU here.*jisu build"):
        open_backend("tensorrt", artifact, BackendOptions(plan=plans))


def test_a_model_with_an_encoder_opens_two_plans(text_to_text_tensorrt, monkeypatch, tmp_path):
    pretended = pretend(text_to_text_tensorrt, monkeypatch, tmp_path)
    for _ in range(2):
        with load(text_to_text_tensorrt.folder, "tensorrt", capacity=40) as engine:
            assert (engine.backend.max_positions, engine.backend.max_source_positions) == (40, 340)
            answer = engine.generate("The quick brown fox.", max_new_tokens=4)
            assert len(answer.token_ids) == 4
    assert [build["graph"].part for build in pretended.builds] == ["", "encoder"]
    cache = tmp_path / "cache"
    with load(text_to_text_tensorrt.folder, "tensorrt", plan=next(cache.glob("*sm90.plan.gz"))) as engine:
        assert engine.backend.max_source_positions == 340
    next(cache.glob("*.encoder.plan.gz")).unlink()
    with pytest.raises(InputError, match="sm90.encoder.plan.gz cannot be used.*there is none yet.*jisu build"):
        load(text_to_text_tensorrt.folder, "tensorrt", plan=cache)


def test_backends_without_plans_say_who_has_them(artifact):
    with pytest.raises(InputError, match="ort-cpu does not take --plan.*it for tensorrt, tensorrt-rtx"):
        open_backend("ort-cpu", artifact, BackendOptions(plan=artifact.folder))
