from __future__ import annotations

import json

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.reranking.description import read_reranking

TRANSFORMER = "sentence_transformers.base.modules.transformer.Transformer"
SCORE = "sentence_transformers.cross_encoder.modules.logit_score.LogitScore"


def write(folder, *, kinds=(TRANSFORMER, SCORE), score=None, settings=None, stated=None):
    paths = ["", "1_LogitScore"][: len(kinds)]
    lines = [{"path": path, "type": kind} for path, kind in zip(paths, kinds, strict=True)]
    (folder / "1_LogitScore").mkdir()
    files = {
        "modules.json": lines,
        "1_LogitScore/config.json": score or {"true_token_id": 5, "false_token_id": None},
        "sentence_bert_config.json": {"transformer_task": "text-generation", **(settings or {})},
        "config_sentence_transformers.json": stated or {},
    }
    for name, content in files.items():
        (folder / name).write_text(json.dumps(content))
    return folder


def test_a_folder_states_tokens_template_lengths_and_its_prompt(tmp_path):
    settings = {
        "modality_config": {"message": {"method": "forward", "format": "structured"}},
        "processing_kwargs": {"chat_template": {"add_generation_prompt": True, "restore_suffix": False, "kind": 1}},
        "max_seq_length": 99,
    }
    stated = {"prompts": {"web": "find it"}, "default_prompt_name": "web"}
    made = read_reranking(write(tmp_path, settings=settings, stated=stated))
    assert (made.yes, made.no, made.templated, made.asks, made.in_parts) == (5, None, True, True, True)
    assert (made.variables, made.instruction, made.longest, made.reads_logits) == ({"kind": 1}, "find it", 99, True)


def test_other_folders_are_not_rerankers_of_this_kind(tmp_path):
    assert read_reranking(tmp_path) is None
    assert read_reranking(write(tmp_path, kinds=(TRANSFORMER,))) is None


def test_a_classifier_with_a_template_has_no_tokens(tmp_path):
    settings = {"transformer_task": "sequence-classification", "modality_config": {"message": {}}}
    made = read_reranking(write(tmp_path, kinds=(TRANSFORMER,), settings=settings))
    assert (made.yes, made.templated, made.reads_logits) == (None, True, False)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"score": {"true_token_id": "yes"}}, "true_token_id 'yes'"),
        ({"score": {"true_token_id": True}}, "true_token_id True"),
        ({"score": {"true_token_id": 1, "layer": 3}}, "Received: layer"),
        ({"settings": {"transformer_task": "any-to-any"}}, "transformer_task 'any-to-any'"),
        ({"settings": {"processing_kwargs": {"text": {}}}}, "processing_kwargs text"),
        ({"settings": {"modality_config": []}}, "modality_config"),
        ({"settings": {"modality_config": {"message": "flat"}}}, "modality_config {'message': 'flat'}"),
        ({"settings": {"max_seq_length": 0}}, "max_seq_length 0"),
        ({"stated": {"default_prompt_name": "web"}}, "default_prompt_name 'web'"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(changes, message, tmp_path):
    with pytest.raises(InputError, match=message):
        read_reranking(write(tmp_path, **changes))
