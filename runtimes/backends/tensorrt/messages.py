"""What TensorRT says while it parses and builds, kept for error messages instead of being printed."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from jisu.runtimes.backends.tensorrt.library import Library

# Said of what was dropped or read otherwise than meant: another model than the one that was verified.
FATAL_WARNINGS = ("unused input", "unused output", "attribute")
_SHOWN = 3
_LONGEST = 400


@dataclass(kw_only=True)
class Messages:
    """Errors and warnings in their order."""

    errors: list[str] = field(default_factory=list)
    warnings: list[str] = field(default_factory=list)

    @property
    def fatal(self) -> list[str]:
        """Warnings that mean another model than the one that was verified."""
        return [line for line in self.warnings if any(word in line.lower() for word in FATAL_WARNINGS)]

    def shown(self) -> str:
        """The first errors, each shortened; they repeat each other in several layers."""
        lines = list(dict.fromkeys(" ".join(line.split())[:_LONGEST] for line in self.errors if _tells(line)))
        return "; ".join(lines[:_SHOWN]) or "no reason given"


def _tells(line: str) -> bool:
    """Not the frames around a node's dump, nor what every call says on a machine without a driver."""
    return "--- Begin node" not in line and "--- End node" not in line and "cudaError 35" not in line


# A process has one logger for each library: whatever is created later is ignored by it.
_LOGGERS: dict[str, Any] = {}


def logger_into(messages: Messages, library: Library) -> Any:
    """The process's object of the library's `ILogger`, which fills ``messages`` from now on."""
    logger = _LOGGERS.get(library.name)
    if logger is None or not isinstance(logger, library.module.ILogger):
        logger = _LOGGERS[library.name] = _new_logger(library)
    logger.messages = messages
    return logger


def _new_logger(library: Library) -> Any:
    severity = library.module.ILogger

    class Logger(library.module.ILogger):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.messages = Messages()

        def log(self, level: Any, message: str) -> None:
            if level in (severity.INTERNAL_ERROR, severity.ERROR):
                self.messages.errors.append(message)
            elif level == severity.WARNING:
                self.messages.warnings.append(message)

    return Logger()


def monitor_into(report: Any, library: Library) -> Any:
    """An object of the library's `IProgressMonitor` that calls ``report(phase, step, steps)`` for the outer phase."""

    class Monitor(library.module.IProgressMonitor):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.steps: dict[str, int] = {}

        def phase_start(self, phase_name: str, parent_phase: str | None, num_steps: int) -> None:
            self.steps[phase_name] = num_steps
            if not parent_phase:
                report(phase_name, 0, num_steps)

        def step_complete(self, phase_name: str, step: int) -> bool:
            report(phase_name, step + 1, self.steps.get(phase_name, 0))
            return True  # False would cancel the build

        def phase_finish(self, phase_name: str) -> None:
            self.steps.pop(phase_name, None)

    return Monitor()
