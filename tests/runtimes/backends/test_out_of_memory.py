from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.out_of_memory import catch_out_of_memory
from jisu.runtimes.engine import Engine
from tests.runtimes.test_engine import tiny  # noqa: F401  (a fixture)


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        RuntimeError("std::bad_alloc"),
        RuntimeError("[ONNXRuntimeError] : 6 : RUNTIME_EXCEPTION : Failed to allocate memory for requested buffer"),
        RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 8 bytes"),
    ],
    ids=repr,
)
def test_a_lack_of_memory_names_what_was_asked_for(error: Exception) -> None:
    with (
        pytest.raises(InputError, match=r"not enough memory.*3 rows of 70 tokens.*fewer"),
        catch_out_of_memory(rows=3, tokens=70),
    ):
        raise error


def test_any_other_error_stays_ours() -> None:
    with pytest.raises(RuntimeError, match="Non-zero status code"), catch_out_of_memory(rows=1, tokens=1):
        raise RuntimeError("Non-zero status code returned while running MatMul")


@pytest.mark.parametrize("capacity", [10**14, 10**19])
def test_a_state_larger_than_the_memory_is_an_input_error(tiny: Engine, capacity: int) -> None:  # noqa: F811
    with pytest.raises(InputError, match="not enough memory"):
        tiny.backend.new_state(1, capacity)


def test_a_call_that_runs_out_of_memory_is_an_input_error(
    tiny: Engine,  # noqa: F811
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from jisu.runtimes.backends.ort_cpu.call import BoundCall

    def run(*args: object) -> None:
        raise RuntimeError("Failed to allocate memory for requested buffer of size 8")

    monkeypatch.setattr(BoundCall, "run", run)
    with pytest.raises(InputError, match="not enough memory"):
        tiny.generate_ids([[1, 2]])
