from __future__ import annotations

import importlib.util
from pathlib import Path

EXAMPLE = Path(__file__).parents[2] / "examples" / "batch_and_stream.py"


def test_it_answers_a_batch_and_streams(smollm2_artifact, capsys):
    spec = importlib.util.spec_from_file_location("batch_and_stream", EXAMPLE)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    module.main(str(smollm2_artifact.folder))
    printed = capsys.readouterr().out
    assert "The capital of France is Paris." in printed
    assert len(printed.splitlines()) > 4
