"""Writes a tiny GGUF file of an architecture, with random weights and a byte-level tokenizer of a few merges."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from jisu.benchmarks.studies.gguf_tensors import ROWS, Architecture


def write_gguf(
    path: Path,
    made: Architecture,
    *,
    variant: str | None = None,
    seed: int = 0,
    quantization: str = "F32",
) -> Path:
    """Write a file of an architecture, with the settings (None leaves a key out) of one of its variants."""
    import gguf

    settings = made.settings | (made.variants[variant] if variant else {})
    shapes = made.shapes | made.extra.get(variant or "", {})
    writer = gguf.GGUFWriter(str(path), made.name)
    for key, value in settings.items():
        _add(writer, f"{made.name}.{key}", value)
    _add_tokenizer(writer)
    generator = np.random.default_rng(seed)
    kind = gguf.GGMLQuantizationType[quantization]
    for name, shape in shapes.items():
        values = _random(generator, name, shape)
        if values.ndim >= 2 and shape[-1] % gguf.GGML_QUANT_SIZES[kind][0] == 0 and "norm" not in name:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
        else:
            writer.add_tensor(name, values)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _random(generator: np.random.Generator, name: str, shape: tuple[int, ...]) -> Any:
    values = generator.standard_normal(shape, np.float32)
    if name.endswith("ssm_a"):  # decays: negative
        return -np.exp(0.3 * values)
    if "rope_f" in name:  # divisors of frequencies
        return np.exp(0.3 * np.abs(values))
    if "norm" in name and name.endswith("weight"):
        return 1 + 0.1 * values
    if len(shape) == 1 or name.endswith((".bias", "scale")):
        return 0.3 * values
    return values / np.float32(np.sqrt(shape[-1]))


def _add(writer: Any, key: str, value: Any) -> None:
    if value is None:
        return
    if isinstance(value, bool):
        writer.add_bool(key, value)
    elif isinstance(value, int):
        writer.add_uint32(key, value)
    elif isinstance(value, float):
        writer.add_float32(key, value)
    elif isinstance(value, str):
        writer.add_string(key, value)
    else:
        writer.add_array(key, value)


def _add_tokenizer(writer: Any) -> None:
    import gguf

    vocabulary, merges = byte_level_vocabulary()
    tokens = sorted(vocabulary, key=vocabulary.__getitem__)
    tokens += [f"[PAD{number}]" for number in range(len(tokens), ROWS)]
    special = {"<s>", "</s>", "<pad>"}
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("gpt-2")
    writer.add_token_list(tokens)
    writer.add_token_types([gguf.TokenType.CONTROL if token in special else gguf.TokenType.NORMAL for token in tokens])
    writer.add_token_merges(merges)
    writer.add_bos_token_id(0)
    writer.add_eos_token_id(1)
    writer.add_pad_token_id(2)
    writer.add_add_bos_token(False)  # noqa: FBT003


def byte_level_vocabulary() -> tuple[dict[str, int], list[str]]:
    """Ids of tokens, and merges; a few rows of the embedding remain without a token."""
    from tokenizers import Tokenizer, models, pre_tokenizers, trainers

    backend = Tokenizer(models.BPE())
    backend.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=ROWS - 4,
        special_tokens=["<s>", "</s>", "<pad>"],
        initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
        show_progress=False,
    )
    backend.train_from_iterator(
        ["the model reads the words of the text, and the next word is the model's"] * 9, trainer
    )
    model = json.loads(backend.to_str())["model"]
    return model["vocab"], [" ".join(pair) for pair in model["merges"]]
