from __future__ import annotations

import argparse

import pytest

from exporter.errors import InputError
from runtimes import gpu
from runtimes.commands.build import capability, default_folder, targets
from runtimes.gpu import Gpu, GpuProbe
from runtimes.tensorrt.library import Library

TENSORRT = Library(name="tensorrt", module=None)


def test_a_capability_is_two_numbers():
    assert (capability("8.9"), capability("12.0")) == ((8, 9), (12, 0))
    for wrong in ("89", "sm89", "8.9.1", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="write it as 8.9"):
            capability(wrong)


def test_a_plan_of_tensorrt_is_named_for_the_gpu_that_is_here(monkeypatch):
    here = GpuProbe(devices=(Gpu(name="NVIDIA H200", memory=1, compute_capability=(9, 0)),))
    monkeypatch.setattr(gpu, "probe_gpus", lambda: here)
    assert targets(TENSORRT, ()) == [("NVIDIA H200 sm90", None)]


def test_without_a_gpu_and_without_a_choice_there_is_nothing_to_build_for(monkeypatch):
    monkeypatch.setattr(gpu, "probe_gpus", lambda: GpuProbe(problem="no NVIDIA driver"))
    with pytest.raises(InputError, match="no NVIDIA driver.*--compute-capability 8.6"):
        targets(TENSORRT, ())


def test_plans_are_found_by_their_graph():
    assert default_folder("ab" * 32).parts[-3:] == ("jisu", "plans", "ab" * 8)
