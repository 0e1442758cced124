from __future__ import annotations

from types import SimpleNamespace

from jisu.runtimes.backends.tensorrt.library import Library
from jisu.runtimes.backends.tensorrt.messages import Messages, logger_into, monitor_into


class Severity:
    INTERNAL_ERROR, ERROR, WARNING, INFO = range(4)


LIBRARY = Library(
    name="fake", module=SimpleNamespace(ILogger=Severity, IProgressMonitor=type("Monitor", (), {}), __version__="1")
)


def test_one_logger_serves_all_builds_of_a_process():
    first, second = Messages(), Messages()
    logger = logger_into(first, LIBRARY)
    logger.log(Severity.ERROR, "broken")
    assert logger_into(second, LIBRARY) is logger
    logger.log(Severity.WARNING, "Unused Input: x")
    logger.log(Severity.INFO, "nothing")
    assert (first.errors, second.warnings, second.fatal) == (["broken"], ["Unused Input: x"], ["Unused Input: x"])


def test_frames_and_the_missing_driver_tell_nobody_anything():
    messages = Messages(
        errors=["--- Begin node ---", "cudaError 35: driver", "int4\n is not for sm75", "a", "a", "b", "c"]
    )
    assert messages.shown() == "int4 is not for sm75; a; b"
    assert Messages().shown() == "no reason given"


def test_steps_are_reported_with_their_phase():
    seen = []
    monitor = monitor_into(lambda *step: seen.append(step), LIBRARY)
    monitor.phase_start("Building", None, 3)
    assert monitor.step_complete("Building", 0) is True
    monitor.phase_finish("Building")
    assert seen == [("Building", 0, 3), ("Building", 1, 3)]
