"""The faults themselves, for `benchmarks.studies.planted_faults`: what is wrong, in which tiny model, and how."""

from __future__ import annotations

from functools import partial
from typing import Any

import numpy as np

from jisu.benchmarks.studies.computation_fault_list import COMPUTATION
from jisu.benchmarks.studies.faults import (
    Fault,
    angles,
    attribute,
    constant,
    element,
    nodes,
    rows,
    settings,
    weights_elsewhere,
)
from jisu.benchmarks.studies.graph_faults import exchange_constants, send_elsewhere, widen_window


def _nan_row(array: Any) -> Any:
    array[-1] = np.nan
    return array


def _double(array: Any) -> Any:
    array.reshape(-1)[5] *= 2
    return array


def _next(array: Any) -> Any:
    flat = array.reshape(-1)
    flat[7] ^= 1
    return array


def _exchange_vocabulary(data: Any) -> None:
    vocabulary = data["model"]["vocab"]
    first, second = sorted(vocabulary, key=vocabulary.get)[-2:]
    vocabulary[first], vocabulary[second] = vocabulary[second], vocabulary[first]


# (name, whether comparing data finds it, damage) of experts in integers.
EXPERT_FAULTS = (
    (
        "two experts exchanged",
        True,
        nodes(exchange_constants(*(f"model.layers.1.mlp.experts.{n}.down_proj.weight.codes.packed" for n in (1, 3)))),
    ),
    (
        "an expert's scales",
        True,
        constant("layers.0.mlp.experts.2.gate_up_proj.weight.scales", lambda array: array * array.dtype.type(1.01)),
    ),
    ("one code of an expert", True, constant("layers.1.mlp.experts.0.gate_up_proj.weight.codes", _next)),
    ("a router's row", True, constant("layers.0.mlp.gate.weight", lambda array: np.roll(array, 1, axis=0))),
    ("tokens sent to other experts", False, nodes(partial(send_elsewhere, experts=4))),
)


def _exchange_layers(array: Any) -> Any:
    return np.roll(array, 1, axis=0)


_EMBEDDING = "embed_tokens.weight"
_BIT = 2.0**-20
TABLES = (
    Fault(
        name="rotary rows 412 to the last",
        subject="llama",
        stored=True,
        damage=constant("rotary_table_0", rows(412, 511, lambda part: part[::-1])),
    ),
    Fault(
        name="rotary row 311",
        subject="llama",
        stored=True,
        damage=constant("rotary_table_1", rows(311, 311, lambda part: -part)),
    ),
    Fault(
        name="last rotary row",
        subject="llama",
        stored=True,
        damage=constant("rotary_table_0", rows(511, 511, lambda part: part * 0)),
    ),
    Fault(
        name="rotary row is NaN",
        subject="llama",
        stored=True,
        damage=constant("rotary_table_0", rows(500, 500, lambda part: part * np.nan)),
    ),
    Fault(
        name="rotary tables end early",
        subject="llama",
        stored=True,
        damage=constant("rotary_table", lambda array: array[:480]),
    ),
    Fault(
        name="rotary tables shifted by one",
        subject="llama",
        damage=constant("rotary_table", lambda array: np.roll(array, 1, axis=0)),
    ),
    Fault(
        name="rotary row 311 of half precision",
        subject="llama-fp16",
        stored=True,
        damage=constant("rotary_table_0!", rows(311, 311, lambda part: -part)),
    ),
    Fault(
        name="rotary row 311 beside int8 weights",
        subject="llama-int8",
        stored=True,
        damage=constant("rotary_table_0", rows(311, 311, lambda part: -part)),
    ),
    Fault(
        name="attention factor of yarn left out",
        subject="yarn",
        stored=True,
        damage=constant("rotary_table", lambda array: array / (0.1 * np.log(4.0) + 1)),
    ),
    Fault(
        name="factor of yarn 3.9 instead of 4",
        subject="yarn",
        stored=True,
        damage=angles(lambda angle: angle * np.where(np.arange(8) > 4, 4 / 3.9, 1.0)),
    ),
    Fault(
        name="one factor of longrope",
        subject="longrope",
        stored=True,
        damage=angles(lambda angle: angle * np.where(np.arange(8) == 5, 1.01, 1.0)),
    ),
    Fault(
        name="row 400 of learned positions",
        subject="gpt2",
        stored=True,
        damage=constant("wpe.weight", rows(400, 400, lambda part: part[::-1] + 1)),
    ),
    Fault(
        name="learned positions exchanged",
        subject="gpt2",
        stored=True,
        damage=constant("wpe.weight", rows(450, 451, lambda part: part[::-1])),
    ),
)
WINDOWS = (
    Fault(
        name="window one too wide",
        subject="window",
        damage=nodes(attribute("GroupQueryAttention", "local_window_size", 65)),
    ),
    Fault(
        name="window one too narrow",
        subject="window",
        damage=nodes(attribute("GroupQueryAttention", "local_window_size", 63)),
    ),
    Fault(
        name="window one too wide behind position 300",
        subject="window-portable",
        damage=nodes(partial(widen_window, behind=300)),
    ),
    Fault(
        name="window one too wide behind position 450",
        subject="window-portable",
        damage=nodes(partial(widen_window, behind=450)),
    ),
    Fault(
        name="window of one layer dropped",
        subject="window",
        damage=nodes(attribute("GroupQueryAttention", "local_window_size", -1, first_only=True)),
    ),
    Fault(
        name="window one too wide with int8 weights",
        subject="window-int8",
        damage=nodes(attribute("GroupQueryAttention", "local_window_size", 65)),
    ),
)
WEIGHTS = (
    Fault(
        name="a row of a rare token",
        subject="llama",
        stored=True,
        damage=constant(_EMBEDDING, rows(383, 383, lambda part: part + 1)),
    ),
    Fault(name="NaN in an unused row", subject="llama", stored=True, damage=constant(_EMBEDDING, _nan_row)),
    Fault(
        name="one bit of one weight",
        subject="llama",
        stored=True,
        damage=constant("layers.1.mlp.down_proj", element((3, 5), _BIT)),
    ),
    Fault(
        name="first number of a merged weight",
        subject="llama",
        stored=True,
        damage=constant("layers.0.self_attn.qkv", element((0, 0), 9.0)),
    ),
    Fault(
        name="gate and up exchanged",
        subject="llama",
        stored=True,
        damage=constant("layers.2.mlp.gate_up", lambda array: np.roll(array, 128, axis=1)),
    ),
    Fault(
        name="weight of a norm",
        subject="llama",
        stored=True,
        damage=constant("layers.2.input_layernorm", element((7,), 0.0)),
    ),
    Fault(
        name="rows of the output projection",
        subject="llama",
        stored=True,
        damage=constant("lm_head", lambda array: np.roll(array, 1, axis=1)),
    ),
    Fault(
        name="last row of the output projection is zero",
        subject="llama",
        stored=True,
        damage=constant("lm_head", lambda array: array * (np.arange(384) < 383)),
    ),
    Fault(
        name="a row of half precision",
        subject="llama-fp16",
        stored=True,
        damage=constant(_EMBEDDING, rows(383, 383, lambda part: part + 1)),
    ),
    Fault(
        name="a scale doubled",
        subject="llama-int8",
        stored=True,
        damage=constant("layers.1.self_attn.o_proj.weight.scales", _double),
    ),
    Fault(
        name="a code off by one",
        subject="llama-int8",
        stored=True,
        damage=constant("layers.1.self_attn.o_proj.weight.codes", _next),
    ),
    Fault(
        name="a scale of the embedding doubled",
        subject="llama-int8",
        stored=True,
        damage=constant("embed_tokens.weight.scales", rows(383, 383, lambda part: part * 2)),
    ),
    Fault(
        name="a code of a rare token",
        subject="llama-int8",
        stored=True,
        damage=constant("embed_tokens.weight.codes", rows(383, 383, lambda part: part ^ 64)),
    ),
    Fault(
        name="a scale is NaN",
        subject="llama-int8",
        stored=True,
        damage=constant("layers.0.mlp.down_proj.weight.scales", element((0, 0), float("nan"))),
    ),
    Fault(
        name="rows of scales moved",
        subject="llama-int8",
        stored=True,
        damage=constant("layers.0.mlp.down_proj.weight.scales", _exchange_layers),
    ),
    Fault(
        name="a nibble",
        subject="llama-int4",
        stored=True,
        damage=constant("layers.2.mlp.down_proj.weight.codes", _next),
    ),
    Fault(
        name="a zero point",
        subject="llama-int4",
        stored=True,
        damage=constant("layers.0.self_attn.o_proj.weight.zero_points", _next),
    ),
    Fault(
        name="a zero point of a higher block",
        subject="llama-int4",
        stored=True,
        damage=constant("layers.1.self_attn.o_proj.weight.zero_points", rows(40, 40, lambda part: part ^ 0x10)),
    ),
    Fault(
        name="two experts exchanged",
        subject="experts",
        stored=True,
        damage=nodes(
            exchange_constants(*(f"model.layers.1.mlp.experts.{number}.down_proj.weight" for number in (1, 3)))
        ),
    ),
    Fault(
        name="an expert one percent larger",
        subject="experts",
        stored=True,
        damage=constant("layers.0.mlp.experts.2.gate_up_proj.weight", lambda array: array * np.float32(1.01)),
    ),
    Fault(
        name="tokens sent to other experts",
        subject="experts",
        damage=nodes(partial(send_elsewhere, experts=4)),
    ),
    Fault(
        name="a router's row",
        subject="experts",
        stored=True,
        damage=constant("layers.0.mlp.gate.weight", lambda array: np.roll(array, 1, axis=0)),
    ),
    *(
        Fault(name=name, subject=f"experts-{precision}", stored=stored, damage=damage)
        for precision in ("int8", "int4")
        for name, stored, damage in EXPERT_FAULTS
    ),
    Fault(
        name="slope of one head",
        subject="bloom",
        stored=True,
        damage=constant("unsqueeze_3", lambda array: array * [[1.0], [1.0], [1.02], [1.0]]),
    ),
    Fault(
        name="slopes of another number of heads",
        subject="bloom",
        stored=True,
        damage=constant("unsqueeze_3", lambda array: array**0.5),
    ),
    Fault(
        name="a row of token types",
        subject="bert",
        stored=True,
        damage=constant("token_type_embeddings", lambda array: array[::-1]),
    ),
    Fault(
        name="a weight of the encoder",
        subject="marian",
        stored=True,
        damage=constant("layers.1.fc1.weight", element((2, 2), 3.0), graph="encoder.onnx"),
    ),
    Fault(
        name="last learned position of the encoder",
        subject="marian",
        stored=True,
        damage=constant("embed_positions.weight", rows(339, 339, lambda part: part + 1), graph="encoder.onnx"),
    ),
    Fault(
        name="a label's weights",
        subject="bert",
        stored=True,
        damage=constant("classifier.weight", lambda array: array[..., ::-1]),
    ),
    Fault(
        name="last position of a classifier",
        subject="bert",
        stored=True,
        damage=constant("position_embeddings", rows(511, 511, lambda part: part + 5)),
    ),
)
_EOS: dict[str, Any] = {"eos_token_id": [5]}
FOLDER = (
    Fault(name="weights beside the folder", subject="llama", damage=weights_elsewhere("../model.onnx.data")),
    Fault(name="weights behind a link", subject="llama", damage=weights_elsewhere("link/model.onnx.data")),
    Fault(name="weights at an absolute path", subject="llama", damage=weights_elsewhere("/")),
    Fault(
        name="stop token of onnxruntime-genai",
        subject="llama",
        stored=True,
        damage=settings("genai_config.json", lambda data: data["model"].update(_EOS)),
    ),
    Fault(
        name="length of onnxruntime-genai",
        subject="llama",
        stored=True,
        damage=settings("genai_config.json", lambda data: data["search"].update(max_length=9)),
    ),
    Fault(
        name="stop token",
        subject="llama",
        stored=True,
        damage=settings("generation_config.json", lambda data: data.update(_EOS)),
    ),
    Fault(
        name="a temperature",
        subject="llama",
        stored=True,
        damage=settings("generation_config.json", lambda data: data.update(temperature=5.0, do_sample=True)),
    ),
    Fault(
        name="stop token of the manifest",
        subject="llama",
        stored=True,
        damage=settings("manifest.json", lambda data: data["model"].update(eos=[5])),
    ),
    Fault(
        name="positions of the manifest",
        subject="llama",
        stored=True,
        damage=settings("manifest.json", lambda data: data["model"].update(max_positions=256)),
    ),
    Fault(
        name="padding of the manifest",
        subject="llama",
        stored=True,
        damage=settings("manifest.json", lambda data: data["model"].update(pad=7)),
    ),
    Fault(
        name="labels of the manifest",
        subject="bert",
        stored=True,
        damage=settings("manifest.json", lambda data: data["model"].update(labels=["neutral", "sad", "glad"])),
    ),
    Fault(
        name="first token of the decoder",
        subject="marian",
        stored=True,
        damage=settings("manifest.json", lambda data: data["model"].update(decoder_start=3)),
    ),
    Fault(
        name="a merge removed",
        subject="llama",
        stored=True,
        damage=settings("tokenizer.json", lambda data: data["model"]["merges"].pop(20)),
    ),
    Fault(
        name="merges in another order",
        subject="llama",
        stored=True,
        damage=settings("tokenizer.json", lambda data: data["model"]["merges"].reverse()),
    ),
    Fault(
        name="an added token moved",
        subject="llama",
        stored=True,
        damage=settings("tokenizer.json", lambda data: data["added_tokens"][0].update(id=9)),
    ),
    Fault(
        name="an added token that strips",
        subject="llama",
        stored=True,
        damage=settings("tokenizer.json", lambda data: data["added_tokens"][0].update(rstrip=True)),
    ),
    Fault(
        name="rare tokens exchanged",
        subject="llama",
        stored=True,
        damage=settings("tokenizer.json", _exchange_vocabulary),
    ),
    Fault(
        name="a normalizer",
        subject="llama",
        stored=True,
        damage=settings("tokenizer.json", lambda data: data.update(normalizer={"type": "NFKC"})),
    ),
    Fault(
        name="a prefix space",
        subject="llama",
        stored=True,
        damage=settings("tokenizer.json", lambda data: data["pre_tokenizer"].update(add_prefix_space=True)),
    ),
    Fault(
        name="no decoder",
        subject="llama",
        stored=True,
        damage=settings("tokenizer.json", lambda data: data.update(decoder=None)),
    ),
    Fault(
        name="another end of sentence",
        subject="llama",
        stored=True,
        damage=settings("tokenizer_config.json", lambda data: data.update(eos_token="<s>")),
    ),
)
FAULTS: tuple[Fault, ...] = (*TABLES, *WINDOWS, *WEIGHTS, *COMPUTATION, *FOLDER)
