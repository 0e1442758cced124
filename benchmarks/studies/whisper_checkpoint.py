"""A Whisper checkpoint of transformers from the files of another runtime, CTranslate2, which packages carry.

    python -m jisu.benchmarks.studies.whisper_checkpoint MODEL.bin CONFIG.json TOKENIZER.json OUT

Only names change: fused projections are split again, and a bias of zeros that stands for none is left out.
"""

from __future__ import annotations

import argparse
import json
import struct
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

Arrays = dict[str, npt.NDArray[Any]]

_DTYPES = {0: "<f4", 1: "i1", 2: "<i2", 3: "<i4", 4: "<f2"}
# What one block of the other runtime is called here; `{}` is the number of a layer.
_BLOCKS = {
    "self_attention/layer_norm": "self_attn_layer_norm",
    "self_attention/linear_1": "self_attn.out_proj",
    "attention/layer_norm": "encoder_attn_layer_norm",
    "attention/linear_0": "encoder_attn.q_proj",
    "attention/linear_2": "encoder_attn.out_proj",
    "ffn/layer_norm": "final_layer_norm",
    "ffn/linear_0": "fc1",
    "ffn/linear_1": "fc2",
}
_FUSED = {
    "self_attention/linear_0": ("self_attn", "qkv"),
    "attention/linear_1": ("encoder_attn", "kv"),
}
_LEAVES = {"gamma": "weight", "beta": "bias", "weight": "weight", "bias": "bias"}


def read_ctranslate2(path: Path) -> Arrays:
    """Every tensor of a file by name, of dtypes that need no scale.

    Raises:
        ValueError: it is another version of the format, or holds tensors of another kind.
    """
    with path.open("rb") as file:
        (version,) = struct.unpack("<I", file.read(4))
        if version < 5:
            raise ValueError(f"version {version} of the format is not known")
        _text(file)
        _, count = struct.unpack("<II", file.read(8))
        return dict(_tensors(file, count))


def _tensors(file: BinaryIO, count: int) -> Iterator[tuple[str, npt.NDArray[Any]]]:
    for _ in range(count):
        name = _text(file)
        (rank,) = struct.unpack("<B", file.read(1))
        dims = struct.unpack(f"<{rank}I", file.read(4 * rank))
        kind, size = struct.unpack("<BI", file.read(5))
        if kind not in _DTYPES:
            raise ValueError(f"{name} has the dtype number {kind}")
        yield name, np.frombuffer(file.read(size), _DTYPES[kind]).reshape(dims)


def _text(file: BinaryIO) -> str:
    (length,) = struct.unpack("<H", file.read(2))
    return file.read(length).rstrip(b"\0").decode()


def renamed(stored: Arrays) -> Arrays:
    """Under the names of transformers' ``WhisperForConditionalGeneration``."""
    weights: Arrays = {}
    for side in ("encoder", "decoder"):
        weights[f"model.{side}.embed_positions.weight"] = stored[f"{side}/position_encodings/encodings"]
        weights[f"model.{side}.layer_norm.weight"] = stored[f"{side}/layer_norm/gamma"]
        weights[f"model.{side}.layer_norm.bias"] = stored[f"{side}/layer_norm/beta"]
    weights["model.decoder.embed_tokens.weight"] = stored["decoder/embeddings/weight"]
    for name, array in stored.items():
        side, _, rest = name.partition("/")
        part, _, leaf = rest.rpartition("/")
        if part in ("conv1", "conv2"):
            weights[f"model.{side}.{part}.{leaf}"] = array
        if not part.startswith("layer_") or part == "layer_norm":
            continue
        layer, _, block = part.partition("/")
        prefix = f"model.{side}.layers.{layer.removeprefix('layer_')}"
        if block in _BLOCKS and leaf in _LEAVES:
            weights[f"{prefix}.{_BLOCKS[block]}.{_LEAVES[leaf]}"] = array
        elif block in _FUSED:
            attention, letters = _FUSED[block]
            for letter, piece in zip(letters, np.split(array, len(letters)), strict=True):
                if letter == "k" and leaf == "bias":
                    continue  # zeros: keys have none
                weights[f"{prefix}.{attention}.{letter}_proj.{leaf}"] = np.ascontiguousarray(piece)
    return weights


def write_checkpoint(stored: Arrays, facts: dict[str, Any], tokenizer: Path, out: Path) -> None:
    """Write config.json, weights, tokenizer, features and settings of generation into a folder."""
    import transformers
    from safetensors.numpy import save_file

    known: Any = transformers  # its classes have no types
    out.mkdir(parents=True)
    weights = renamed(stored)
    table = weights["model.decoder.embed_tokens.weight"]
    sides = {side: _layers(weights, side) for side in ("encoder", "decoder")}
    tokens = known.PreTrainedTokenizerFast(tokenizer_file=str(tokenizer))
    token: Callable[[str], int] = tokens.convert_tokens_to_ids
    end = token("<|endoftext|>")
    special = {"bos_token_id": end, "eos_token_id": end, "pad_token_id": end}
    special["decoder_start_token_id"] = token("<|startoftranscript|>")
    width = table.shape[1]
    known.WhisperConfig(
        architectures=["WhisperForConditionalGeneration"],
        vocab_size=table.shape[0],
        num_mel_bins=weights["model.encoder.conv1.weight"].shape[1],
        d_model=width,
        encoder_layers=sides["encoder"],
        decoder_layers=sides["decoder"],
        encoder_attention_heads=width // 64,
        decoder_attention_heads=width // 64,
        encoder_ffn_dim=weights["model.encoder.layers.0.fc1.weight"].shape[0],
        decoder_ffn_dim=weights["model.decoder.layers.0.fc1.weight"].shape[0],
        max_source_positions=weights["model.encoder.embed_positions.weight"].shape[0],
        max_target_positions=weights["model.decoder.embed_positions.weight"].shape[0],
        dtype="float16",
        **special,
    ).save_pretrained(out)
    save_file(weights, out / "model.safetensors", metadata={"format": "pt"})
    known.WhisperFeatureExtractor(feature_size=weights["model.encoder.conv1.weight"].shape[1]).save_pretrained(out)
    languages = tokens.convert_ids_to_tokens(facts["lang_ids"])
    no_timestamps = token("<|notimestamps|>")
    known.GenerationConfig(
        **special,
        max_length=448,
        suppress_tokens=facts["suppress_ids"],
        begin_suppress_tokens=facts["suppress_ids_begin"],
        is_multilingual=len(languages) > 1,
        lang_to_id=dict(zip(languages, facts["lang_ids"], strict=True)),
        task_to_id={name: token(f"<|{name}|>") for name in ("transcribe", "translate")},
        no_timestamps_token_id=no_timestamps,
        prev_sot_token_id=token("<|startofprev|>"),
        max_initial_timestamp_index=50,
        return_timestamps=False,
        alignment_heads=facts["alignment_heads"],
    ).save_pretrained(out)
    tokens.save_pretrained(out)


def _layers(weights: Arrays, side: str) -> int:
    prefix = f"model.{side}.layers."
    return 1 + max(int(name.removeprefix(prefix).split(".")[0]) for name in weights if name.startswith(prefix))


def main() -> None:
    """Convert one model."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    for name in ("model", "config", "tokenizer", "out"):
        parser.add_argument(name, type=Path)
    arguments = parser.parse_args()
    facts = json.loads(arguments.config.read_text(encoding="utf-8"))
    write_checkpoint(read_ctranslate2(arguments.model), facts, arguments.tokenizer, arguments.out)


if __name__ == "__main__":
    main()
