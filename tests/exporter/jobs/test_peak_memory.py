"""The peak is seen by the kernel's counter and by the sampling thread, and reset between measurements."""

from __future__ import annotations

from pathlib import Path

import pytest

from jisu.exporter.jobs import peak_memory
from jisu.exporter.jobs.peak_memory import PeakMemory
from tests.support.held_memory import BLOCK, hold_memory

NOWHERE = Path("/nonexistent/clear_refs")


@pytest.mark.parametrize("sampled", [False, True], ids=["kernel", "sampled"])
def test_peak_covers_memory_that_was_freed_again(sampled: bool) -> None:
    memory = PeakMemory(clear_refs=NOWHERE) if sampled else PeakMemory()
    memory.reset()
    before = memory.read()
    hold_memory(seconds=5 * peak_memory.SAMPLE_SECONDS)
    peak = memory.read()
    memory.reset()
    after = memory.read()
    memory.close()
    assert peak - before > BLOCK // 2
    assert peak - after > BLOCK // 2


def test_without_any_way_to_measure_the_peak_is_unknown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(peak_memory, "resident_bytes", lambda: 0)
    memory = PeakMemory(clear_refs=NOWHERE)
    memory.reset()
    assert memory.read() == 0
    memory.close()


def test_status_without_the_counter_falls_back_to_sampling(tmp_path: Path) -> None:
    (tmp_path / "status").write_text("Name: x\nVmHWM: none\n")
    memory = PeakMemory(clear_refs=tmp_path / "clear_refs", status=tmp_path / "status")
    memory.reset()
    assert memory.read() > 0
    memory.close()


def test_close_twice_is_harmless() -> None:
    memory = PeakMemory(clear_refs=NOWHERE)
    memory.reset()
    memory.close()
    memory.close()
