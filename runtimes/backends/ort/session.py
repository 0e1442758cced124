"""Opens an artifact's graph on ONNX Runtime's CPU provider."""

from __future__ import annotations

import contextlib
import functools
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.external_data import check_external_data
from jisu.runtimes.backends.forks import keep_for_parent
from jisu.runtimes.backends.ort.huge_pages import in_huge_pages
from jisu.runtimes.backends.ort.placement import RECORDS_PLACEMENT
from jisu.runtimes.backends.ort.unpacked_codes import WEIGHTS_IN, hold_room, read_unpacked, unpack_codes
from jisu.runtimes.machine.freed_memory import return_freed_memory
from jisu.runtimes.machine.threads import usable_threads

PROVIDER = "CPUExecutionProvider"
# Setting of a call of a session with shared memory: what nobody uses of that memory goes back to the system behind it.
GIVES_BACK = {"memory.enable_memory_arena_shrinkage": "cpu:0"}


def open_session(
    graph: Path,
    *,
    threads: int | None,
    profile: Path | None = None,
    records_placement: bool = False,
    unfused: Sequence[str] = (),
    keeps_half: bool = False,
) -> Any:
    """A session for one graph of an artifact.

    Args:
        threads: how many compute; None for as many as the process may use cores.
        profile: beginning of the path of the file that the time of every node is written into.
        unfused: names of the package's graph optimizations that are left out.
        keeps_half: leave weights of half precision as they are in the file, and let each call make the float32 that it
            computes with; otherwise opening does, which takes twice their size.
        records_placement: let `runtimes.backends.ort.placement` read back which provider runs which node.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: the graph is damaged or keeps weights elsewhere.
    """
    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    onnxruntime = import_onnxruntime()

    check_external_data(graph)
    options, left_out = _options(onnxruntime, threads=threads, keeps_half=keeps_half)
    if records_placement:
        options.add_session_config_entry(RECORDS_PLACEMENT, "1")
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    with _refusing(graph, onnxruntime.__version__):
        unpacked = read_unpacked(graph, options)
        with in_huge_pages(), contextlib.nullcontext() if unpacked is None else unpacked[1].given_back():
            session = onnxruntime.InferenceSession(
                str(graph) if unpacked is None else unpacked[0],
                options,
                providers=[PROVIDER],
                disabled_optimizers=[*unfused, *left_out],
            )
    keep_for_parent(session)
    if unpacked is not None:
        hold_room(session, unpacked[1])
        return_freed_memory()
    return session


def open_model(
    model: Any,
    folder: Path,
    *,
    threads: int | None,
    keeps_half: bool = False,
    settings: Mapping[str, str] = MappingProxyType({}),
) -> Any:
    """A session for a graph in memory, such as a piece of an artifact's; it keeps nothing of what a call needs.

    Args:
        model: `onnx.ModelProto`; its codes in planes are put together in place.
        folder: that its weights lie in.
        threads, keeps_half: see `open_session`. Sessions that keep half weights make float32 copies of them in memory
            that all of them share, and that stays in the process until a call gives it back, see `GIVES_BACK`.
        settings: of the session, by the package's names.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: the graph is damaged.
    """
    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    onnxruntime = import_onnxruntime()
    options, left_out = _options(onnxruntime, threads=threads, keeps_half=keeps_half)
    if keeps_half:
        _share_memory(onnxruntime)
        options.add_session_config_entry("session.use_env_allocators", "1")
    else:
        options.enable_cpu_mem_arena = False  # which would keep what the longest call took
    # Threads that wait for another call without sleeping take cores from the session that is called next.
    options.add_session_config_entry("session.force_spinning_stop", "1")
    options.add_session_config_entry(WEIGHTS_IN, str(folder.resolve()))
    for name, value in settings.items():
        options.add_session_config_entry(name, value)
    with _refusing(folder, onnxruntime.__version__):
        room = unpack_codes(model, folder, options)
        with contextlib.nullcontext() if room is None else room.given_back():
            session = onnxruntime.InferenceSession(
                model.SerializeToString(), options, providers=[PROVIDER], disabled_optimizers=left_out
            )
    keep_for_parent(session)
    if room is not None:
        hold_room(session, room)
    return session


@functools.cache
def _share_memory(onnxruntime: Any) -> None:
    """Make the memory that sessions opened with ``session.use_env_allocators`` share; once in a process.

    Memory that each session gets anew for the copy of a weight is cleared by the system, page by page, which takes
    longer than making the copy and multiplying a token by it.
    """
    place = onnxruntime.OrtMemoryInfo(
        "Cpu", onnxruntime.OrtAllocatorType.ORT_ARENA_ALLOCATOR, 0, onnxruntime.OrtMemType.DEFAULT
    )
    # It grows by what is needed; left alone it doubles each time.
    onnxruntime.create_and_register_allocator(place, onnxruntime.OrtArenaCfg({"arena_extend_strategy": 1}))


def _options(onnxruntime: Any, *, threads: int | None, keeps_half: bool) -> tuple[Any, list[str]]:
    """Options of a session, and names of the graph optimizations that it leaves out."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    left_out = []
    if keeps_half:
        # Above this level constants are folded a second time, which no name leaves out (onnxruntime 1.32).
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_BASIC
        left_out.append("ConstantFolding")
        # By default everything that is made of weights alone is made first, and then lies beside each other.
        options.execution_order = onnxruntime.ExecutionOrder.PRIORITY_BASED
    options.log_severity_level = 3  # its warnings are about its own choices, not about anything a user can change
    # A call rarely has the shapes of the one before (masks grow, texts differ), so that a memory plan per shape is made
    # and never used again.
    options.enable_mem_pattern = False
    # Left alone the package takes the machine's cores, whatever the process may use of them.
    options.intra_op_num_threads = usable_threads() if threads is None else threads
    return options, left_out


@contextlib.contextmanager
def _refusing(graph: Path, version: str) -> Iterator[None]:
    """Turn what the package of this version raises when it opens a graph into one InputError."""
    try:
        yield
    except Exception as error:  # the package's errors share no class of their own
        raise InputError(
            f"ONNX Runtime {version} cannot open {graph}",
            received=str(error).strip().splitlines()[0],
            allowed="a graph that its CPU provider can run",
            fix="Export the model again, or install the onnxruntime version that the manifest names.",
        ) from error
