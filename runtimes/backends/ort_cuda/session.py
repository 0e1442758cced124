"""Opens a graph on ONNX Runtime's CUDA provider, or says in a sentence what this machine lacks for it.

Strict: a session with a node that costs anything and is not on the GPU is refused, unless it was allowed.
"""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.external_data import check_external_data
from jisu.runtimes.backends.forks import keep_for_parent
from jisu.runtimes.backends.ort.placement import RECORDS_PLACEMENT, Placement, check_placement
from jisu.runtimes.backends.ort_cuda.cuda_libraries import load_cuda_libraries
from jisu.runtimes.machine.doctor import find_clashes
from jisu.runtimes.machine.gpu import probe_gpus
from jisu.runtimes.machine.gpu_needs import require_gpu, require_type
from jisu.runtimes.machine.probe import installed_packages

PROVIDER = "CUDAExecutionProvider"
NAME = "ort-cuda"
DEVICE = "cuda"
# What the runtime says of a graph that is not on the GPU from one end to the other.
_NOT_RECORDED = "cannot use the graph capture feature"
_GET_CUDNN = "pip install 'jisu[cuda,cudnn]'."
_CUDNN_LOOPS = frozenset({"LSTM", "GRU", "RNN"})
# Words of CUDA and of the runtime's own arena for memory that is not there.
_FULL = ("out of memory", "failed to allocate", "available memory")
_ASKED = re.compile(r"requested buffer of size (\d+)")


def onnxruntime_for_gpu(precision: str) -> Any:
    """The package, once a GPU is there that can run the precision.

    Raises:
        ImportError: onnxruntime is not installed.
        InputError: no GPU or driver, one that is too old, onnxruntime twice, or no libraries of CUDA.
    """
    require_type(require_gpu(probe_gpus(), backend=NAME), precision)
    refuse_clashes(installed_packages())
    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    package = import_onnxruntime()
    load_cuda_libraries(package)
    return package


def refuse_clashes(packages: dict[str, str]) -> None:
    """Raise InputError where onnxruntime is installed twice: which of the two is loaded is then chance."""
    for clash in find_clashes(packages):
        raise InputError(
            clash.problem,
            received="two packages that install the module onnxruntime",
            allowed="onnxruntime-gpu alone",
            fix=f"Fix it with: {clash.fix.removesuffix('.')}.",
        )


def open_cuda_session(
    onnxruntime: Any, graph: Path, *, captures: bool, allow_cpu_nodes: bool = False
) -> tuple[Any, Placement]:
    """A session for one graph of an artifact, and where its operators run.

    Args:
        onnxruntime: the package, or what stands in for it.
        captures: record calls as CUDA graphs, by the ``gpu_graph_id`` that they name, where that can be done; where it
            cannot, the placement says why (``unrecorded``).
        allow_cpu_nodes: let operators that cost something run on the CPU.

    Raises:
        InputError: the package for CPUs, a damaged graph, or nodes that would not run on the GPU.
    """
    if PROVIDER not in onnxruntime.get_available_providers():
        raise InputError(
            "The installed onnxruntime cannot use a GPU",
            received=", ".join(onnxruntime.get_available_providers()),
            allowed=PROVIDER,
            fix="pip uninstall -y onnxruntime && pip install 'jisu[cuda]'.",
        )
    check_external_data(graph)
    unrecorded = None
    try:
        session = _open(onnxruntime, graph, captures=captures)
    except Exception as error:  # the package's errors share no class of their own
        if _NOT_RECORDED not in str(error):
            raise _not_opened(error, onnxruntime, graph) from error
        unrecorded = "copies between the memories of CPU and GPU"
        try:
            session = _open(onnxruntime, graph, captures=False)
        except Exception as again:
            raise _not_opened(again, onnxruntime, graph) from again
    placement = check_placement(session, provider=PROVIDER, allow_cpu_nodes=allow_cpu_nodes)
    loops = sorted(_CUDNN_LOOPS & set(placement.counts.get(PROVIDER, ())))
    if captures and loops:
        unrecorded = f"{' and '.join(loops)} of cuDNN, which reads lengths on the CPU"
    return session, replace(placement, unrecorded=unrecorded)


def _open(onnxruntime: Any, graph: Path, *, captures: bool) -> Any:
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4  # what goes wrong is raised, too
    # The plan by which values take each other's place forgets that the CPU reads shapes later than the GPU's
    # operators do (1.31): OPT reshaped to a length that was no longer there. Freed memory is used again all the same.
    options.enable_mem_reuse = False
    options.add_session_config_entry(RECORDS_PLACEMENT, "1")
    providers = [(PROVIDER, {"enable_cuda_graph": "1" if captures else "0", "use_tf32": "0"})]
    session = onnxruntime.InferenceSession(str(graph), options, providers=providers)
    keep_for_parent(session)
    return session


def _not_opened(error: Exception, onnxruntime: Any, graph: Path) -> InputError:
    said = str(error).strip().splitlines()[0]
    without_cudnn = "cudnn is unavailable" in said.lower()
    if _is_full(said):
        needed = sum(path.stat().st_size for path in (graph, graph.with_name(f"{graph.name}.data")) if path.is_file())
        return InputError(
            f"The GPU has no room for {graph}",
            received=f"{needed / 1e6:.1f} MB needed for its weights",
            allowed=f"what is free{_of_all()}",
            fix="Close what else uses the GPU, or export the model in a smaller precision, such as int8 or int4.",
        )
    return InputError(
        f"ONNX Runtime {onnxruntime.__version__} cannot open {graph} on the GPU" + (" without cuDNN" * without_cudnn),
        received=said,
        allowed="a graph that its CUDA provider can run",
        fix=_GET_CUDNN if without_cudnn else "Check the machine with: jisu doctor.",
    )


def not_run(error: Exception, *, rows: int, tokens: int) -> InputError:
    """What the runtime says of a call that failed: most often that memory for the call itself was missing."""
    said = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
    if "cudnn is unavailable" in said.lower():
        return InputError(
            "ONNX Runtime cannot run the graph on the GPU without cuDNN",
            received=said,
            allowed="a GPU with what the model's operators need",
            fix=_GET_CUDNN,
        )
    if _is_full(said):
        request = _ASKED.search(said)
        more = f"{int(request[1]) / 1e6:.1f} MB more needed for a call of " if request else "a call of "
        return InputError(
            "The GPU has no room for a call",
            received=f"{more}{rows} rows of {tokens} tokens",
            allowed=f"what is free{_of_all()}",
            fix="Use fewer rows, a shorter prompt, or a smaller precision, such as int8.",
        )
    return InputError(
        "ONNX Runtime cannot run the graph on the GPU",
        received=f"{rows} rows of {tokens} tokens: {said}",
        allowed="a call that its CUDA provider can run",
        fix="Check the machine with: jisu doctor.",
    )


def on_gpu(onnxruntime: Any, array: Any, *, rows: int, tokens: int) -> Any:
    """A copy of an array in the GPU's memory, for a call; raises InputError where there is no room."""
    try:
        return onnxruntime.OrtValue.ortvalue_from_numpy(array, DEVICE, 0)
    except Exception as error:  # the package's errors share no class of their own
        raise not_run(error, rows=rows, tokens=tokens) from error


def _is_full(message: str) -> bool:
    return any(word in message.lower() for word in _FULL)


def _of_all() -> str:
    devices = probe_gpus().devices
    return f" of the {devices[0].memory / 1e6:.0f} MB of {devices[0].name}" if devices else ""
