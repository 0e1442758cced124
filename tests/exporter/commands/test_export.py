from __future__ import annotations

import jisu


def test_the_command_says_what_a_half_precision_does_not_give(tiny_source, tmp_path, capsys):
    assert jisu.main(["export", str(tiny_source), "--out", str(tmp_path / "out"), "--precision", "bf16"]) == 0
    said = capsys.readouterr()
    assert "halves the files and nothing else" in said.err
    assert "accepted after" in said.out


def test_it_says_nothing_where_it_was_asked_to(tiny_source, tmp_path, capsys):
    out = ["--out", str(tmp_path / "out"), "--precision", "fp16", "--quiet"]
    assert jisu.main(["export", str(tiny_source), *out]) == 0
    assert capsys.readouterr() == ("", "")
