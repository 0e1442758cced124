"""The tiny models are worth testing with."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.support.models import TINY_VOCAB, tiny_tokenizer, write_tiny_llama

pytest.importorskip("torch", reason="tiny models are torch models")


@pytest.mark.parametrize("text", ["Hello", "语言模型，世界！", "👩‍💻🚀", "\x00\x7f \t\r\n", "naïve Ωμέγα हिन्दी"])
def test_any_text_makes_a_round_trip(text: str) -> None:
    tokenizer = tiny_tokenizer()
    assert tokenizer.decode(tokenizer.encode(text)) == text
    assert 300 <= len(tokenizer) <= TINY_VOCAB


def test_the_same_seed_gives_the_same_bytes_and_another_seed_others(tmp_path: Path) -> None:
    one, two, three = (
        (write_tiny_llama(tmp_path / name, layers=1, seed=seed) / "model.safetensors").read_bytes()
        for name, seed in (("one", 1), ("two", 1), ("three", 2))
    )
    assert one == two
    assert one != three
