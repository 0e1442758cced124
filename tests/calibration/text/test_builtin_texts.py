from __future__ import annotations

from jisu.calibration.text.builtin_texts import (
    KINDS,
    LONGEST,
    PYTHON_MODULES,
    TORCH_FILES,
    builtin_texts,
)


def test_this_python_and_this_torch_have_every_text() -> None:
    actual = [text.origin for text in builtin_texts()]
    assert len(actual) == 1 + len(PYTHON_MODULES) + len(TORCH_FILES)
    assert {text.kind for text in builtin_texts()} == set(KINDS)
    assert all(len(text.text) <= LONGEST for text in builtin_texts() if text.kind == "code")


def test_the_languages_of_code_take_turns() -> None:
    code = [text.origin.partition("/")[0] for text in builtin_texts() if text.kind == "code"]
    assert code[:4] == ["Lib", "torch", "Lib", "torch"]


def test_what_is_missing_is_left_out(monkeypatch) -> None:  # type: ignore[no-untyped-def]
    import importlib.util

    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name in ("torch", "heapq") else find(name))
    origins = [text.origin for text in builtin_texts()]
    assert "Lib/heapq.py" not in origins
    assert not [origin for origin in origins if origin.startswith("torch/")]
