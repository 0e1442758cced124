"""Lengths and uses of an encoder, and what of them is refused by name."""

from __future__ import annotations

import json

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.embedding.text_limits import read_limits

STATES = {"method": "forward", "method_output_name": "last_hidden_state"}


def write(folder, settings):
    (folder / "sentence_bert_config.json").write_text(json.dumps(settings), encoding="utf-8")
    return folder


def test_without_a_file_nothing_is_limited(tmp_path):
    assert read_limits(tmp_path) == {}


@pytest.mark.parametrize(
    "settings",
    [
        {"max_seq_length": 77, "do_lower_case": True},
        {"modality_config": {"text": STATES}, "module_output_name": "token_embeddings", "unpad_inputs": True},
        {"modality_config": None, "query_length": None, "processing_kwargs": {}, "model_args": None},
        {"model_args": {"attn_implementation": "sdpa", "trust_remote_code": True}, "tokenizer_args": {}},
        {"processor_kwargs": {"padding_side": "left"}},
    ],
)
def test_what_changes_no_number_is_read(tmp_path, settings):
    assert read_limits(write(tmp_path, settings)) == settings


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"modality_config": "text"}, "modality_config 'text'"),
        ({"modality_config": ["text"]}, r"modality_config \['text'\]"),
        ({"modality_config": {"text": None}}, "modality_config {'text': None}"),
        ({"modality_config": {"text": {**STATES, "method_output_name": "pooler_output"}}}, "'pooler_output' of the"),
        ({"module_output_name": "sentence_embedding"}, "as 'sentence_embedding', where"),
        ({"processing_kwargs": {"text": {"max_length": 8}}}, "processing_kwargs {'text'"),
        ({"query_length": 5}, "query_length 5"),
        ({"tokenizer_args": {"padding_side": "left", "add_eos_token": True}}, "tokenizer_args with add_eos_token"),
        ({"config_kwargs": {"hidden_act": "relu"}}, "config_kwargs with hidden_act"),
        ({"model_args": [1]}, r"model_args \[1\]"),
    ],
)
def test_what_makes_another_model_or_other_tokens_is_refused(tmp_path, settings, words):
    with pytest.raises(InputError, match=words):
        read_limits(write(tmp_path, settings))
