from __future__ import annotations

import sys
import textwrap
import time
from pathlib import Path

import pytest

from benchmarks.against_peers import Candidate, Worker, measure, ratios_of, render

# Answers at once, and says how often it was asked: the speed doubles with every round.
FAKE = """
    from benchmarks.peers.worker import serve
    asked = []
    def generate(prompt, new_tokens):
        asked.append(prompt[0])
        {body}
    serve(lambda: (generate, "fake 1"))
"""


def candidate(name, *, body="return 0.5 / len(asked), {factor} * (new_tokens - 1) / 100", factor=1.0):
    program = textwrap.dedent(FAKE).format(body=body.format(factor=factor))
    return Candidate(name=name, command=[sys.executable, "-c", program], size=5_000_000, quality={"mean KL": 0.01})


def test_rounds_after_the_warm_up_are_counted_and_ratios_taken_round_by_round():
    rows = measure([candidate("a"), candidate("b", factor=2.0)], [[1, 2, 3, 4]] * 4, new_tokens=11)
    assert [row["name"] for row in rows] == ["a", "b"]
    assert rows[0]["prefill tok/s"] == pytest.approx([16, 24, 32])  # 4 tokens in 0.5 / 2, / 3, / 4 seconds
    assert rows[0]["decode tok/s"] == pytest.approx([100] * 3)
    ratios = ratios_of(rows, "a", "b")
    assert (ratios["decode tok/s"].median, ratios["prefill tok/s"].median) == pytest.approx((2.0, 1.0))
    assert rows[0]["resident_bytes"] > 1e6
    text = render(rows, {"a / b": ratios})
    assert "| a | 5.0 | 24 (16-32) | 100 (100-100) |" in text
    assert "- a / b: prefill 1 (1-1), decode 2 (2-2)" in text


def processor_time(pid):
    """Ticks of a process so far."""
    fields = Path(f"/proc/{pid}/stat").read_text(encoding="ascii").rsplit(")", 1)[1].split()
    return int(fields[11]) + int(fields[12])


def test_a_worker_stands_still_while_it_is_not_asked():
    busy = candidate("busy", body="Thread(target=spin, daemon=True).start(); return 1.0, 1.0")
    busy.command[2] = "from threading import Thread\ndef spin():\n    while True: pass\n" + busy.command[2]
    with Worker(busy) as worker:
        worker.ask([1], 2)
        time.sleep(0.05)  # until the signal has arrived
        before = processor_time(worker._process.pid)
        time.sleep(0.3)
        assert processor_time(worker._process.pid) == before


def test_a_worker_that_ends_is_named():
    broken = candidate("broken", body="raise SystemExit(3)")
    with Worker(broken) as worker, pytest.raises(RuntimeError, match=r"broken.*3"):
        worker.ask([1], 2)
