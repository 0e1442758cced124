from __future__ import annotations

import sys

from jisu.benchmarks.studies.harness_overhead import main


def test_all_sides_make_tokens_and_what_they_cost_is_printed(tiny, monkeypatch, capsys):
    words = ["harness_overhead", str(tiny.fp32), "--new-tokens", "4", "--trials", "1", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", words)
    main()
    said = capsys.readouterr().out
    assert "of the bare loop's speed" in said
    assert "ms per token on top of the session" in said
    assert [line.split()[0] for line in said.splitlines()[1:5]] == ["session", "bare", "harness", "worker"]
