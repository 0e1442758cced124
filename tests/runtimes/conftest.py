"""Artifacts for TensorRT that several tests build plans of."""

from __future__ import annotations

import importlib.util
import os
from pathlib import Path
from typing import Any

import pytest

from tests.runtimes.backends.tensorrt.artifacts import RTX_MISSING, exported


@pytest.fixture(scope="session")
def trt_folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("tensorrt")


@pytest.fixture(scope="session")
def trt_llama(trt_folder: Path) -> Any:
    """A Llama in fp16; read it, never write into it."""
    return exported(trt_folder, "llama", "fp16")


@pytest.fixture(scope="session")
def trt_int4(trt_folder: Path) -> Any:
    """The same in int4."""
    return exported(trt_folder, "llama", "int4")


@pytest.fixture(scope="session")
def rtx() -> Any:
    """TensorRT-RTX; where it is not installed, the tests that need it are skipped."""
    from jisu.runtimes.backends.tensorrt.library import import_library

    if importlib.util.find_spec("tensorrt_rtx") is None:
        # CI has it or is broken; a silent skip there would leave every plan unbuilt.
        (pytest.fail if os.environ.get("CI") == "true" else pytest.skip)(RTX_MISSING)
    return import_library("tensorrt-rtx")
