from __future__ import annotations

from types import SimpleNamespace

import pytest

from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.runtimes.backends.tensorrt.library import Library, check_capabilities, import_library
from jisu.runtimes.machine.gpu import Gpu, GpuProbe

H200 = GpuProbe(devices=(Gpu(name="NVIDIA H200", memory=1 << 37, compute_capability=(9, 0)),))
NONE = GpuProbe(problem="no NVIDIA driver: libcuda.so.1 is not here")
MODULE = SimpleNamespace(
    __version__="1.7", ComputeCapability=SimpleNamespace(__members__={"NONE": 0, "SM86": 1, "SM120": 2})
)


def raising(error):
    def importer(name):
        raise error

    return importer


def test_the_driver_is_asked_before_a_library_that_crashes_without_one():
    with pytest.raises(InputError, match="libcuda.so.1 is not here.*--backend tensorrt-rtx"):
        import_library("tensorrt", probe=lambda: NONE, importer=raising(AssertionError("imported")))


def test_rtx_needs_no_driver():
    library = import_library("tensorrt-rtx", probe=lambda: NONE, importer=lambda name: MODULE)
    assert library.capabilities == ((8, 6), (12, 0))
    assert library.version == "1.7"


@pytest.mark.parametrize("name", ["tensorrt", "tensorrt-rtx"])
def test_a_missing_library_says_how_to_install_it(name):
    with pytest.raises(MissingDependencyError, match=f"pip install 'jisu\\[{name}\\]'"):
        import_library(name, probe=lambda: H200, importer=raising(ModuleNotFoundError("no", name="tensorrt")))


def test_a_library_that_does_not_load_is_one_clear_error():
    with pytest.raises(InputError, match="libnvinfer.so.11.*force-reinstall"):
        import_library("tensorrt", probe=lambda: H200, importer=raising(OSError("libnvinfer.so.11: cannot open")))


def test_capabilities_without_plans_are_refused_with_the_known_ones():
    rtx = Library(name="tensorrt-rtx", module=MODULE)
    check_capabilities(rtx, ((8, 6),))
    with pytest.raises(InputError, match="9.0.*Allowed: 8.6, 12.0"):
        check_capabilities(rtx, ((8, 6), (9, 0)))


def test_tensorrt_builds_for_its_own_gpu_alone():
    with pytest.raises(InputError, match="Leave it out, or build with --backend tensorrt-rtx"):
        check_capabilities(Library(name="tensorrt", module=MODULE), ((9, 0),))


def test_other_backends_have_no_plans():
    with pytest.raises(InputError, match="tensorrt, tensorrt-rtx"):
        import_library("ort-cuda")
