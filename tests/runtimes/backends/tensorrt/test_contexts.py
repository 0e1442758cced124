from __future__ import annotations

import pytest

from tests.runtimes.backends.tensorrt.pretended import Context


def test_what_stands_in_for_a_context_has_the_real_ones_calls() -> None:
    library = pytest.importorskip("tensorrt_rtx", reason="the package tensorrt-rtx-cu13 is not installed")
    calls = [name for name in vars(Context) if not name.startswith("_") and callable(getattr(Context, name))]
    assert len(calls) == 4
    assert all(callable(getattr(library.IExecutionContext, name)) for name in calls)


def test_the_library_has_what_opens_a_plan() -> None:
    library = pytest.importorskip("tensorrt_rtx", reason="the package tensorrt-rtx-cu13 is not installed")
    assert callable(library.Runtime.deserialize_cuda_engine)
    assert callable(library.ICudaEngine.create_execution_context)
    assert hasattr(library.ICudaEngine, "device_memory_size_v2")
