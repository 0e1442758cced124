from __future__ import annotations

import sys
from types import SimpleNamespace
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.import_onnxruntime import import_onnxruntime
from jisu.runtimes.backends.ort_cuda.cuda_libraries import load_cuda_libraries, missing_libraries

# What onnxruntime-gpu 1.31.1 prints on a machine without CUDA, and with a file that is damaged.
SAID = """\
Failed to load /somewhere/nvidia/cu13/lib/libcublas.so.13: file too short
Failed to load libcublasLt.so.13: libcublasLt.so.13: cannot open shared object file: No such file or directory
Failed to load libcurand.so.10: libcurand.so.10: cannot open shared object file: No such file or directory
Please follow https://onnxruntime.ai/docs/install/#cuda-and-cudnn to install CUDA.
"""


def package(said: str) -> Any:
    return SimpleNamespace(preload_dlls=lambda: sys.stdout.write(said))


def test_missing_libraries_are_one_clear_error_and_nothing_is_printed(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(InputError, match=r"no libcublasLt.so.13, libcurand.so.10.*pip install 'jisu\[cuda\]'"):
        load_cuda_libraries(package(SAID))
    assert capsys.readouterr().out == ""


def test_libraries_that_are_found_are_no_error() -> None:
    load_cuda_libraries(package(""))


def test_the_processors_package_misses_nothing() -> None:
    assert missing_libraries(import_onnxruntime()) == ()
