"""Numbers that no model can have end in one sentence, before anything is built from them."""

from __future__ import annotations

import json
import math
import re
import struct

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from jisu.exporter.sources.plausible import check_config, check_layer_count
from tests.support.models import llama_config, text_to_text_config, write_tiny_gguf, write_tiny_llama

STORED = 20


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"rms_norm_eps": 0.0},
        {"attention_dropout": 1.0},
        {"max_position_embeddings": 10**9},
        {"layers": STORED},
        {"eos_token_id": -1},
        {"rope_parameters": {"rope_type": "linear", "rope_theta": 1e7, "factor": 8.0}},
    ],
)
def test_unusual_numbers_pass(changes, tmp_path):
    check_config(llama_config(**changes), tmp_path, stored=STORED)


@pytest.mark.parametrize(
    ("count", "said"), [(1000, None), (1001, "decoder_layers 1001"), (10**30, "decoder_layers 1e+30")]
)
def test_layers_of_every_part_are_counted(count, said, tmp_path):
    """A list of this length would be built before anything could be compared with it."""
    config = text_to_text_config(decoder_layers=count)
    if said is None:
        check_config(config, tmp_path, stored=STORED)
        return
    with pytest.raises(InputError, match=re.escape(said)):
        check_config(config, tmp_path, stored=STORED)


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"layers": -1}, "num_hidden_layers -1"),
        ({"num_attention_heads": -1}, "num_attention_heads -1"),
        ({"layers": 0}, "num_hidden_layers 0"),
        ({"layers": STORED + 1}, "21 layers for 20 stored tensors"),
        ({"max_position_embeddings": 0}, "max_position_embeddings 0"),
        ({"max_position_embeddings": -1}, "max_position_embeddings -1"),
        ({"rms_norm_eps": -1.0}, "rms_norm_eps -1.0"),
        ({"rms_norm_eps": math.nan}, "rms_norm_eps nan"),
        ({"rms_norm_eps": math.inf}, "rms_norm_eps inf"),
        ({"attention_dropout": 2.0}, "attention_dropout 2.0"),
        ({"attention_dropout": -0.5}, "attention_dropout -0.5"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": math.nan}}, "rope_theta nan"),
        ({"rope_parameters": {"rope_type": "default", "rope_theta": 0.0}}, "rope_theta 0.0"),
    ],
)
def test_impossible_numbers_are_named(changes, said, tmp_path):
    with pytest.raises(InputError, match="no model can have") as caught:
        check_config(llama_config(**changes), tmp_path, stored=STORED)
    assert said in str(caught.value)


def test_all_impossible_numbers_are_named_at_once(tmp_path):
    with pytest.raises(InputError) as caught:
        check_config(llama_config(rms_norm_eps=-1.0, max_position_embeddings=0), tmp_path, stored=STORED)
    assert "rms_norm_eps -1.0, max_position_embeddings 0" in str(caught.value)


@pytest.mark.parametrize("layers", [10**4 + 1, 4 * 10**9, 1e300, math.nan])
def test_more_layers_than_any_model_has_are_refused_unread(layers, tmp_path):
    with pytest.raises(InputError, match="1 to 10000 layers"):
        check_layer_count(layers, tmp_path)


@pytest.mark.parametrize("layers", [1, 400, None, "two"])
def test_other_layer_counts_are_left_to_the_reader(layers, tmp_path):
    check_layer_count(layers, tmp_path)


@pytest.fixture
def folder(tmp_path):
    return write_tiny_llama(tmp_path / "source")


def edit_config(folder, name="config.json", **changes):
    path = folder / name
    path.write_text(json.dumps({**json.loads(path.read_text()), **changes}))


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"num_hidden_layers": 300_000}, "layers"),
        ({"num_hidden_layers": 4 * 10**9}, "layers"),
        ({"num_hidden_layers": -1}, "num_hidden_layers -1"),
        ({"max_position_embeddings": 0}, "max_position_embeddings 0"),
        ({"eos_token_id": 10**9}, "eos_token_id 1000000000"),
        ({"architectures": [5], "model_type": "bert"}, "not a language model that can be exported"),
    ],
)
def test_a_folder_with_an_impossible_configuration_is_refused(folder, changes, said):
    edit_config(folder, **changes)
    with pytest.raises(InputError, match=said):
        load_source(folder)


def test_architectures_of_another_type_do_no_harm(folder):
    edit_config(folder, architectures=[5])
    assert load_source(folder).model.layers == 2


def test_a_stop_token_of_the_generation_settings_beyond_the_vocabulary_is_refused(folder):
    edit_config(folder, "generation_config.json", eos_token_id=[1, 5000])
    with pytest.raises(InputError, match="eos_token_id 5000. Allowed: ids below 384"):
        load_source(folder)


def edit_header(folder, edit):
    path = folder / "model.safetensors"
    content = path.read_bytes()
    (size,) = struct.unpack("<Q", content[:8])
    text = edit(content[8 : 8 + size].decode()).encode()
    path.write_bytes(struct.pack("<Q", len(text)) + text + content[8 + size :])


def test_a_weight_of_integers_is_refused(folder):
    def edit(text):
        header = json.loads(text)
        next(entry for name, entry in header.items() if "q_proj" in name)["dtype"] = "I32"
        return json.dumps(header)

    edit_header(folder, edit)
    with pytest.raises(InputError, match="1 of integers .*q_proj"):
        load_source(folder)


def test_a_tensor_listed_twice_is_refused(folder):
    def edit(text):
        header = json.loads(text)
        name = next(name for name in header if "q_proj" in name)
        return f"{text.rstrip()[:-1]}, {json.dumps(name)}: {json.dumps(header[name])}}}"

    edit_header(folder, edit)
    with pytest.raises(InputError, match="q_proj.weight is listed twice"):
        load_source(folder)


@pytest.mark.parametrize(
    ("settings", "said"),
    [
        ({"block_count": 4 * 10**9}, "4000000000 layers"),
        ({"context_length": 0}, "max_position_embeddings 0"),
        ({"llama.rope.freq_base": float("nan")}, "rope_theta nan"),
        ({"llama.rope.freq_base": 0.0}, "rope_theta 0.0"),
        ({"llama.attention.layer_norm_rms_epsilon": float("nan")}, "rms_norm_eps nan"),
        ({"tokenizer.ggml.eot_token_id": 4 * 10**9}, "eos_token_id 4000000000"),
        ({"tokenizer.chat_template": "{% if"}, "chat template"),
        (
            {"tokenizer.chat_template": "{% for i in range(9999) %}{% for j in range(9999) %}{% endfor %}{% endfor %}"},
            "chat template",
        ),
    ],
)
def test_a_gguf_file_with_impossible_metadata_is_refused(settings, said, tmp_path):
    path = write_tiny_gguf(tmp_path / "m.gguf", settings=settings)
    with pytest.raises(InputError, match=said):
        load_source(path)


def test_a_gguf_file_without_tokenizer_has_as_many_ids_as_its_embedding_rows(tmp_path):
    source = load_source(write_tiny_gguf(tmp_path / "m.gguf", tokenizer=False))
    assert (source.model.vocab_size, source.tokenizer) == (384, None)
