"""Opens an artifact's graph on ONNX Runtime's CPU provider."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.external_data import check_external_data
from jisu.runtimes.backends.forks import keep_for_parent
from jisu.runtimes.backends.ort.huge_pages import in_huge_pages
from jisu.runtimes.backends.ort.placement import RECORDS_PLACEMENT
from jisu.runtimes.backends.ort.unpacked_codes import hold_room, read_unpacked
from jisu.runtimes.machine.freed_memory import return_freed_memory
from jisu.runtimes.machine.threads import usable_threads

PROVIDER = "CPUExecutionProvider"


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
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    left_out = list(unfused)
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
    if records_placement:
        options.add_session_config_entry(RECORDS_PLACEMENT, "1")
    # Left alone the package takes the machine's cores, whatever the process may use of them.
    options.intra_op_num_threads = usable_threads() if threads is None else threads
    if profile is not None:
        options.enable_profiling = True
        options.profile_file_prefix = str(profile)
    try:
        unpacked = read_unpacked(graph, options)
        with in_huge_pages(), contextlib.nullcontext() if unpacked is None else unpacked[1].given_back():
            session = onnxruntime.InferenceSession(
                str(graph) if unpacked is None else unpacked[0],
                options,
                providers=[PROVIDER],
                disabled_optimizers=left_out,
            )
    except Exception as error:  # the package's errors share no class of their own
        raise InputError(
            f"ONNX Runtime {onnxruntime.__version__} cannot open {graph}",
            received=str(error).strip().splitlines()[0],
            allowed="a graph that its CPU provider can run",
            fix="Export the model again, or install the onnxruntime version that the manifest names.",
        ) from error
    keep_for_parent(session)
    if unpacked is not None:
        hold_room(session, unpacked[1])
        return_freed_memory()
    return session
