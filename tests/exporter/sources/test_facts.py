from __future__ import annotations

import json
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.facts import vocab_size
from tests.support.models import TINY_VOCAB, text_to_text_config, write_tiny


def test_positions_of_padding_are_no_tokens_of_a_generator_either(tmp_path: Path) -> None:
    import torch
    from transformers import RobertaConfig

    config = RobertaConfig(
        is_decoder=True,
        vocab_size=TINY_VOCAB,
        hidden_size=32,
        intermediate_size=32,
        num_hidden_layers=1,
        num_attention_heads=2,
        max_position_embeddings=35,
        pad_token_id=2,
    )
    source = load_source(write_tiny(tmp_path / "source", config, tokenizer=False))
    assert source.model.max_positions == 32  # 35, less those of ids up to padding, which is 2
    ids = torch.full((1, 32), 5)
    assert source.module(input_ids=ids).logits.shape[1] == 32


@pytest.mark.parametrize(
    "stated", [{"suppress_tokens": [7, ""]}, {"bad_words_ids": [7]}, {"suppress_tokens": 7}, {"suppress_tokens": ""}]
)
def test_settings_of_other_types_are_refused_where_a_decoder_reads_them(tmp_path: Path, stated: dict[str, Any]) -> None:
    folder = write_tiny(tmp_path / "source", text_to_text_config())
    path = folder / "generation_config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **stated}))
    with pytest.raises(InputError, match="generation"):
        load_source(folder)


def test_a_model_without_a_vocabulary_is_refused() -> None:
    class Silent:
        config = SimpleNamespace(get_text_config=SimpleNamespace)

        def get_output_embeddings(self) -> None:
            return None

    with pytest.raises(InputError, match="Silent does not say how many tokens it knows"):
        vocab_size(Silent())
