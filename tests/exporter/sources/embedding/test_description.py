"""What is read of a folder of sentence-transformers, and what of it is refused by name."""

from __future__ import annotations

import json

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.embedding.description import is_embedding_folder, plain_description, read_description


def folder(tmp_path, *, modules=("Transformer", "Pooling", "Normalize"), pooling=None, settings=None, lengths=None):
    lines = [{"type": f"sentence_transformers.models.{one}", "path": f"{i}_{one}"} for i, one in enumerate(modules)]
    write(tmp_path / "modules.json", lines)
    for line, name in zip(lines, modules, strict=True):
        facts = pooling or {"pooling_mode_mean_tokens": True} if name == "Pooling" else {}
        write(tmp_path / line["path"] / "config.json", facts)
    write(tmp_path / "config_sentence_transformers.json", settings or {})
    if lengths is not None:
        write(tmp_path / "0_Transformer" / "sentence_bert_config.json", lengths)
    return tmp_path


def write(path, data):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")


def test_everything_that_is_stated_is_read(tmp_path):
    place = folder(
        tmp_path,
        pooling={"pooling_mode": ["cls", "mean"], "embedding_dimension": 8},
        settings={"prompts": {"query": "q: ", "document": None}, "default_prompt_name": "query"},
        lengths={"max_seq_length": 77, "do_lower_case": True},
    )
    described = read_description(place)
    assert is_embedding_folder(place) and not is_embedding_folder(place / "0_Transformer")
    assert described.encoder == place / "0_Transformer"
    assert (described.pooling, described.longest, described.lowers) == (("cls", "mean"), 77, True)
    assert (described.prompts, described.default_prompt) == ({"query": "q: ", "document": ""}, "query")
    assert [step.kind for step in described.steps] == ["Normalize"] and described.normalized


def test_prompts_may_be_left_out_of_the_pooling_where_there_are_some(tmp_path):
    pooling = {"pooling_mode": "mean", "include_prompt": False}
    assert read_description(folder(tmp_path / "none", pooling=pooling)).pools_prompt
    described = read_description(folder(tmp_path / "some", pooling=pooling, settings={"prompts": {"q": "q: "}}))
    assert not described.pools_prompt


def test_states_of_several_layers_come_before_the_pooling(tmp_path):
    described = read_description(folder(tmp_path, modules=("Transformer", "WeightedLayerPooling", "Pooling")))
    assert described.layers is not None and described.steps == ()


def test_a_layer_behind_the_normalization_makes_other_lengths(tmp_path):
    assert not read_description(folder(tmp_path, modules=("Transformer", "Pooling", "Normalize", "Dense"))).normalized


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"modules": ("Transformer", "WeightedLayerPooling")}, "modules that cannot be exported"),
        ({"modules": ("Transformer", "Pooling", "WeightedLayerPooling")}, "modules that cannot be exported"),
        ({"modules": ("Router",)}, "Router has one model for queries.*one of them with --pooling"),
        ({"modules": ("Transformer", "Pooling", "LogitScore")}, "LogitScore scores pairs"),
        ({"lengths": {"modality_config": {"message": {}}}}, "every text goes through the chat template"),
        ({"modules": ("Transformer",)}, "modules that cannot be exported"),
        ({"modules": ("Transformer", "Pooling", "Pooling")}, "pools twice"),
        ({"pooling": {"pooling_mode": "median"}}, "a pooling that does not exist. Received: 'median'"),
        ({"pooling": {"pooling_mode_cls_token": "no"}}, "does not exist. Received: pooling_mode_cls_token 'no'"),
        ({"pooling": {"include_prompt": "false"}}, "does not exist. Received: include_prompt 'false'"),
        ({"pooling": {"pooling_mode_median_tokens": True}}, "does not exist. Received: pooling_mode_median_tokens"),
        ({"settings": {"prompts": {"q": 3}}}, "prompts that cannot be used"),
        ({"lengths": {"max_seq_length": 1}}, "max_seq_length 1"),
        ({"settings": {"default_prompt_name": []}}, "prompts that cannot be used"),
        ({"settings": {"similarity_fn_name": ["cosine"]}}, "similarity that is not known"),
        ({"settings": {"default_prompt_name": "q"}}, "prompts that cannot be used"),
        ({"settings": {"similarity_fn_name": "taste"}}, "similarity that is not known. Received: 'taste'"),
        ({"lengths": {"max_seq_length": 0}}, "max_seq_length 0"),
        ({"lengths": {"max_seq_lenght": 64}}, "max_seq_lenght, which sentence-transformers does not know"),
        ({"lengths": {"transformer_task": "fill-mask"}}, "transformer_task 'fill-mask'"),
    ],
)
def test_what_is_not_understood_is_refused_by_name(tmp_path, changes, words):
    with pytest.raises(InputError, match=words):
        read_description(folder(tmp_path, **changes))


def test_code_of_a_checkpoint_is_not_run(tmp_path):
    write(tmp_path / "modules.json", [{"type": "modeling.MyTransformer", "path": ""}])
    with pytest.raises(InputError, match="needs remote code"):
        read_description(tmp_path)


@pytest.mark.parametrize("path", ["../out", "a\0b", "x" * 5000])
def test_a_module_outside_of_the_folder_is_refused(tmp_path, path):
    write(tmp_path / "in" / "modules.json", [{"type": "sentence_transformers.models.Transformer", "path": path}])
    with pytest.raises(InputError, match="outside of the checkpoint"):
        read_description(tmp_path / "in")


def test_a_pooling_without_a_file_is_not_taken_for_the_mean(tmp_path):
    (folder(tmp_path) / "1_Pooling" / "config.json").unlink()
    with pytest.raises(InputError, match="config.json does not exist. Received: a Pooling in modules.json"):
        read_description(tmp_path)


def test_a_pooling_of_the_users_has_to_be_one(tmp_path):
    assert plain_description(tmp_path, "cls").pooling == ("cls",)
    with pytest.raises(InputError, match="no such pooling. Received: --pooling median"):
        plain_description(tmp_path, "median")
