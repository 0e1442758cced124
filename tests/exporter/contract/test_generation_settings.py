"""Every entry of transformers' generation settings is known for what it is."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.generation_settings import HARMLESS, HONOURED, OFF, TOKENS, read_generation_settings


def test_every_entry_of_the_installed_transformers_is_listed_once() -> None:
    from transformers import GenerationConfig

    listed = [*HONOURED, *HARMLESS, *OFF, *TOKENS]
    assert len(listed) == len(set(listed))
    assert {name for name in vars(GenerationConfig()) if not name.startswith("_")} <= set(listed) | _RARE


# Of assisted generation in ways that change answers, or of other uses: named to whoever exports.
_RARE = {"assistant_ensemble_weight", "speculation_type"}


def test_what_is_honoured_is_read_and_nothing_else(tmp_path: Path) -> None:
    assert read_generation_settings(tmp_path) == {}
    stored = {"temperature": 0.5, "top_k": None, "eos_token_id": 1, "use_cache": False, "stray": 1}
    (tmp_path / "generation_config.json").write_text(json.dumps(stored))
    assert read_generation_settings(tmp_path) == {"temperature": 0.5}


@pytest.mark.parametrize("text", ["{", "[]", "3", "[" * 100_000])
def test_a_damaged_file_is_refused(tmp_path: Path, text: str) -> None:
    (tmp_path / "generation_config.json").write_text(text)
    with pytest.raises(InputError, match=r"generation_config\.json (cannot be read|does not hold)"):
        read_generation_settings(tmp_path)
