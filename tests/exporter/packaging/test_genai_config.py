"""onnxruntime-genai runs an artifact as it lies there, with the tokens of our own engine."""

from __future__ import annotations

import json

import pytest

from jisu.exporter.contract.signature import Signature, StateSpec, TensorSpec
from jisu.exporter.packaging.genai_config import NAME, write_genai_config

KV = ("B", 2, "capacity", 16)


def genai_tokens(folder, ids, count):
    """Greedy continuation of one prompt by onnxruntime-genai."""
    genai = pytest.importorskip("onnxruntime_genai")
    model = genai.Model(str(folder))
    parameters = genai.GeneratorParams(model)
    parameters.set_search_options(max_length=len(ids) + count, do_sample=False)
    generator = genai.Generator(model, parameters)
    generator.append_tokens([ids])
    while not generator.is_done():
        generator.generate_next_token()
    return [int(token) for token in generator.get_sequence(0)[len(ids) :]]


def our_tokens(folder, ids, count):
    from jisu.runtimes import load

    with load(folder) as engine:
        return list(engine.generate_ids([ids], max_new_tokens=count, temperature=0)[0].token_ids)


def without_end(tokens, ends):
    return tokens[: next((place for place, token in enumerate(tokens) if token in ends), len(tokens))]


@pytest.mark.parametrize("ids", [[5], [9, 40, 41, 42, 7], list(range(20, 60))])
def test_a_tiny_artifact_gives_the_same_greedy_tokens(tiny_artifact, ids):
    ends = tiny_artifact.manifest.model.eos
    ours = without_end(our_tokens(tiny_artifact.folder, ids, 24), ends)
    assert without_end(genai_tokens(tiny_artifact.folder, ids, 24), ends) == ours
    assert ours


def test_its_tokenizer_reads_the_artifacts(tiny_artifact):
    genai = pytest.importorskip("onnxruntime_genai")
    from tokenizers import Tokenizer

    theirs = genai.Tokenizer(genai.Model(str(tiny_artifact.folder)))
    ours = Tokenizer.from_file(str(tiny_artifact.folder / "tokenizer.json"))
    for text in ("The capital of France is Paris.", "你好,世界!"):
        assert list(theirs.encode(text)) == ours.encode(text).ids


@pytest.mark.slow
def test_the_real_artifact_gives_the_same_greedy_tokens(smollm2_artifact):
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_file(str(smollm2_artifact.folder / "tokenizer.json"))
    ends = smollm2_artifact.manifest.model.eos
    for text in ("The capital of France is", "def fibonacci(n):\n"):
        ids = tokenizer.encode(text).ids
        ours = without_end(our_tokens(smollm2_artifact.folder, ids, 16), ends)
        assert without_end(genai_tokens(smollm2_artifact.folder, ids, 16), ends) == ours
        assert ours


def signature(*dims, mask=True, kind="kv"):
    names = {"kv": ("past_key_values", "present"), "recurrent": ("past_state", "present_state")}[kind]
    return Signature(
        inputs=(
            TensorSpec(name="input_ids", dtype="int64", dims=("B", "T")),
            *((TensorSpec(name="attention_mask", dtype="int64", dims=("B", "S")),) if mask else ()),
        ),
        outputs=(TensorSpec(name="logits", dtype="float32", dims=("B", 1, 9)),),
        state=tuple(
            StateSpec(past=f"{names[0]}.{n}.key", present=f"{names[1]}.{n}.key", kind=kind, dtype="float32", dims=dim)
            for n, dim in enumerate(dims)
        ),
    )


def test_the_configuration_says_what_the_graph_has(tiny_artifact):
    config = json.loads((tiny_artifact.folder / NAME).read_text())
    decoder = config["model"]["decoder"]
    assert (decoder["num_hidden_layers"], decoder["num_key_value_heads"], decoder["head_size"]) == (3, 2, 16)
    assert config["model"]["context_length"] == 512
    assert config["search"]["past_present_share_buffer"] is True


@pytest.mark.parametrize(
    "graph",
    [
        signature(KV, KV, mask=False),
        signature(KV, ("B", 4, "capacity", 16)),
        signature(),
        signature(("B", 2, 4), kind="recurrent"),
    ],
    ids=["past_length", "layers of two sizes", "no state", "recurrent"],
)
def test_a_graph_it_cannot_run_gets_no_configuration(tiny_artifact, tmp_path, graph):
    assert write_genai_config(tmp_path, graph, tiny_artifact.manifest.model) is False
    assert list(tmp_path.iterdir()) == []


def test_it_says_what_the_models_own_settings_say(tiny_artifact, tmp_path):
    made = tiny_artifact.manifest
    settings = {"do_sample": True, "temperature": 0.6, "top_k": 20, "repetition_penalty": 1.1, "max_length": 64}
    assert write_genai_config(tmp_path, made.signature, made.model, {**settings, "suppress_tokens": [5]})
    search = json.loads((tmp_path / NAME).read_text())["search"]
    assert search == {**settings, "past_present_share_buffer": True}
    off = {**settings, "do_sample": False, "max_length": 10**9, "num_beams": 2, "early_stopping": "never"}
    assert write_genai_config(tmp_path, made.signature, made.model, off)
    search = json.loads((tmp_path / NAME).read_text())["search"]
    assert search == {
        "do_sample": False,
        "max_length": made.model.max_positions,
        "num_beams": 2,
        "repetition_penalty": 1.1,
        "past_present_share_buffer": True,
    }
