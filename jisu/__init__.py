"""jisu exports PyTorch language models to ONNX, verifies that they still are the same model, and runs them.

    import jisu

    jisu.export("./smollm2", out="build/smollm2-int8", precision="int8")

    with jisu.load("build/smollm2-int8") as engine:
        print(engine.chat([{"role": "user", "content": "What is the capital of France?"}]).text)

The names below are the public API, with types; what else lies in the package may change with any version. Each name
is imported when it is first used, so that ``import jisu`` stays instant.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jisu.command_line import main
    from jisu.exporter.calibration_run import calibrate
    from jisu.exporter.contract.artifact import Artifact
    from jisu.exporter.contract.errors import GateRejectedError, InputError, JisuError, MissingDependencyError
    from jisu.exporter.dry_run import ExportEstimate, estimate_export
    from jisu.exporter.estimates.advice import advise
    from jisu.exporter.gate import GateResult
    from jisu.exporter.pipeline import export
    from jisu.exporter.request import ExportRequest
    from jisu.exporter.sources import load_source
    from jisu.exporter.verification import verify
    from jisu.runtimes.backends.registry import register_backend
    from jisu.runtimes.chat.messages import Message
    from jisu.runtimes.conversation import Conversation
    from jisu.runtimes.engine import Engine
    from jisu.runtimes.generation.async_run import AsyncTextStream
    from jisu.runtimes.generation.many import Prompt, PromptResult
    from jisu.runtimes.generation.options import SamplingOptions
    from jisu.runtimes.generation.result import Result, Timings
    from jisu.runtimes.generation.sampling import TokenLogprobs
    from jisu.runtimes.generation.scoring import TokenScores
    from jisu.runtimes.generation.text_stream import TextStream
    from jisu.runtimes.opening import load
    from jisu.runtimes.reading.answering import Answer
    from jisu.runtimes.reading.classification import Classification
    from jisu.runtimes.reading.filling import Filling
    from jisu.runtimes.reading.tagging import Tag

    __version__: str

# public name -> the module that has it
NAMES = {
    "Answer": "jisu.runtimes.reading.answering",
    "Artifact": "jisu.exporter.contract.artifact",
    "AsyncTextStream": "jisu.runtimes.generation.async_run",
    "Classification": "jisu.runtimes.reading.classification",
    "Conversation": "jisu.runtimes.conversation",
    "Engine": "jisu.runtimes.engine",
    "ExportEstimate": "jisu.exporter.dry_run",
    "ExportRequest": "jisu.exporter.request",
    "Filling": "jisu.runtimes.reading.filling",
    "GateRejectedError": "jisu.exporter.contract.errors",
    "GateResult": "jisu.exporter.gate",
    "InputError": "jisu.exporter.contract.errors",
    "JisuError": "jisu.exporter.contract.errors",
    "Message": "jisu.runtimes.chat.messages",
    "MissingDependencyError": "jisu.exporter.contract.errors",
    "Prompt": "jisu.runtimes.generation.many",
    "PromptResult": "jisu.runtimes.generation.many",
    "Result": "jisu.runtimes.generation.result",
    "SamplingOptions": "jisu.runtimes.generation.options",
    "Tag": "jisu.runtimes.reading.tagging",
    "TextStream": "jisu.runtimes.generation.text_stream",
    "Timings": "jisu.runtimes.generation.result",
    "TokenLogprobs": "jisu.runtimes.generation.sampling",
    "TokenScores": "jisu.runtimes.generation.scoring",
    "advise": "jisu.exporter.estimates.advice",
    "calibrate": "jisu.exporter.calibration_run",
    "export": "jisu.exporter.pipeline",
    "load": "jisu.runtimes.opening",
    "load_source": "jisu.exporter.sources",
    "main": "jisu.command_line",
    "estimate_export": "jisu.exporter.dry_run",
    "register_backend": "jisu.runtimes.backends.registry",
    "verify": "jisu.exporter.verification",
}

__all__ = [
    "Answer",
    "Artifact",
    "AsyncTextStream",
    "Classification",
    "Conversation",
    "Engine",
    "ExportEstimate",
    "ExportRequest",
    "Filling",
    "GateRejectedError",
    "GateResult",
    "InputError",
    "JisuError",
    "Message",
    "MissingDependencyError",
    "Prompt",
    "PromptResult",
    "Result",
    "SamplingOptions",
    "Tag",
    "TextStream",
    "Timings",
    "TokenLogprobs",
    "TokenScores",
    "advise",
    "calibrate",
    "estimate_export",
    "export",
    "load",
    "load_source",
    "main",
    "register_backend",
    "verify",
]


def __getattr__(name: str) -> object:
    if name == "__version__":
        return _version()
    if name not in NAMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(NAMES[name]), name)


def __dir__() -> list[str]:
    return sorted([*__all__, "__version__"])


def _version() -> str:
    import importlib.metadata

    try:
        return importlib.metadata.version("jisu")
    except importlib.metadata.PackageNotFoundError:
        return "(run from a folder; not installed)"
