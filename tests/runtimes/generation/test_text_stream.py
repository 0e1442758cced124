from __future__ import annotations

from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from tests.runtimes.test_engine import saying


def test_a_stream_has_no_result_before_its_end(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not finished"):
        _ = saying(tmp_path, "yes", "say").stream("say", chat=False).result


def test_a_closed_stream_computes_nothing_more_and_the_engine_goes_on(tmp_path: Path) -> None:
    engine = saying(tmp_path, "abc", "say")
    stream = engine.stream("say", chat=False)
    assert next(stream) == "a"
    calls = list(engine.backend.calls)  # type: ignore[attr-defined]
    stream.close()
    assert list(stream) == []
    assert engine.backend.calls == calls  # type: ignore[attr-defined]
    with pytest.raises(InputError, match="closed before its end"):
        _ = stream.result
    assert engine.generate("say", chat=False).text == "abc"


def test_a_stream_closes_with_its_block_and_keeps_its_result(tmp_path: Path) -> None:
    with saying(tmp_path, "abc", "say").stream("say", chat=False) as stream:
        assert "".join(stream) == "abc"
    assert stream.result.text == "abc"
    stream.close()
