from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from jisu.runtimes.machine import gpu
from jisu.runtimes.machine.gpu import Gpu, GpuProbe
from tests.support import gpu_needs

ROOT = Path(__file__).parents[2]
MARKED = """
import pytest
pytest_plugins = ["tests.conftest"]

@pytest.mark.cuda
def test_on_a_gpu():
    pass
"""


@pytest.mark.skipif(gpu_needs.missing("cuda") is None, reason="is about machines without a GPU")
@pytest.mark.parametrize(("require", "code", "said"), [("", 0, "1 skipped"), ("cuda", 1, "1 error")])
def test_a_test_for_a_gpu_is_skipped_with_the_reason_and_fails_where_it_is_required(tmp_path, require, code, said):
    (tmp_path / "test_marked.py").write_text(MARKED)
    command = [sys.executable, "-m", "pytest", "-rsE", "-c", str(ROOT / "pyproject.toml"), str(tmp_path)]
    environment = {**os.environ, "REQUIRE": require, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == code, done.stdout
    assert said in done.stdout
    assert "needs an NVIDIA GPU" in done.stdout


def test_a_gpu_without_the_package_for_it_is_another_reason(monkeypatch):
    here = GpuProbe(devices=(Gpu(name="NVIDIA H200", memory=1, compute_capability=(9, 0)),))
    monkeypatch.setattr(gpu, "probe_gpus", lambda: here)
    assert "onnxruntime-gpu" in gpu_needs.missing.__wrapped__("cuda")
    monkeypatch.setattr(gpu_needs.importlib.util, "find_spec", lambda name: True if name == "cuda" else None)
    assert "TensorRT" in gpu_needs.missing.__wrapped__("tensorrt")
    monkeypatch.setattr(gpu_needs.importlib.util, "find_spec", lambda name: None)
    assert "cuda-python" in gpu_needs.missing.__wrapped__("tensorrt")
