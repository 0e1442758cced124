from __future__ import annotations

import sys

from benchmarks.harness_overhead import main


def test_both_sides_make_tokens_and_their_ratio_is_printed(tiny, monkeypatch, capsys):
    words = ["harness_overhead", str(tiny.fp32), "--new-tokens", "4", "--trials", "1", "--threads", "1"]
    monkeypatch.setattr(sys, "argv", words)
    main()
    assert "of the bare loop's speed" in capsys.readouterr().out
