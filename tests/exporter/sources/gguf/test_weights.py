"""Weights from GGUF are bit for bit those of transformers' own, slower, GGUF loader."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.sources import load_source
from jisu.exporter.sources.gguf.config import read_config
from jisu.exporter.sources.gguf.header import read_gguf_header
from jisu.exporter.sources.linear_layers import use_linear_layers
from jisu.exporter.sources.quiet import quiet_transformers
from tests.support.models import write_tiny_gguf, write_tiny_llama

gguf = pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")

_COMMON = {"context_length": 128, "embedding_length": 64, "block_count": 2, "feed_forward_length": 256}
_ATTENTION = {"attention.head_count": 4, "attention.head_count_kv": 2, "rope.freq_base": 10000.0}
_RMS = {"attention.layer_norm_rms_epsilon": 1e-5}
_EXPERTS = {"expert_count": 4, "expert_used_count": 2, "expert_feed_forward_length": 32}
# By architecture as the file spells it: metadata beyond _COMMON, and names of tensors that the file stores transposed.
ARCHITECTURES: dict[str, dict[str, Any]] = {
    "llama": {**_ATTENTION, **_RMS},
    "qwen2": {**_ATTENTION, **_RMS},
    "qwen3": {**_ATTENTION, **_RMS, "attention.key_length": 16, "attention.value_length": 16},
    "qwen3moe": {**_ATTENTION, **_RMS, **_EXPERTS, "attention.key_length": 16, "attention.value_length": 16},
    "gemma2": {**_ATTENTION, **_RMS, "attention.key_length": 16},
    "gpt2": {"attention.head_count": 4, "attention.layer_norm_epsilon": 1e-5},
    "bloom": {"attention.head_count": 4, "attention.layer_norm_epsilon": 1e-5},
    "lfm2": {**_ATTENTION, **_RMS, "attention.head_count_kv": [0, 2], "shortconv.l_cache": 3},
    "nemotron": {**_ATTENTION, "attention.layer_norm_epsilon": 1e-5, "rope.dimension_count": 8},
}


@pytest.mark.parametrize("architecture", ARCHITECTURES)
def test_weights_equal_those_of_the_slow_loader(architecture: str, tmp_path: Path) -> None:
    path = _write_architecture(tmp_path / "model.gguf", architecture)
    _assert_same_weights(load_source(path).module, _load_slowly(path))


@pytest.mark.parametrize("quantization", ["F16", "BF16", "Q8_0", "Q4_0", "Q4_1", "Q5_0", "Q5_1"])
def test_every_writable_type_dequantizes_as_the_slow_loader_does(quantization: str, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", quantization=quantization, layers=1)
    source = load_source(path)
    assert quantization in source.provenance["dtype"]
    _assert_same_weights(source.module, _load_slowly(path))


def test_types_without_a_writer_dequantize_as_the_gguf_package_does(tmp_path: Path) -> None:
    import numpy as np

    from jisu.exporter.sources.gguf.header import can_dequantize
    from jisu.exporter.sources.gguf.weights import read_tensor

    rng = np.random.default_rng(0)
    kinds = [kind for kind in gguf.GGMLQuantizationType if can_dequantize(kind.value)]
    assert len(kinds) > 20
    writer = gguf.GGUFWriter(str(tmp_path / "types.gguf"), "llama")
    stored = {}
    for kind in kinds:
        _, size = gguf.GGML_QUANT_SIZES[kind]
        # 700 blocks of 256 are more than one piece of work.
        raw = rng.integers(0, 60, (7, 100 * size), dtype=np.uint8)
        raw = raw.view(np.float32) if kind.name == "F32" else raw.view(np.float16) if kind.name == "F16" else raw
        stored[kind.name] = gguf.dequantize(raw, kind)
        writer.add_tensor(kind.name, raw, raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    header = read_gguf_header(tmp_path / "types.gguf")
    for tensor in header.tensors:
        np.testing.assert_array_equal(read_tensor(tensor), stored[tensor.name], err_msg=tensor.name)


def test_the_model_is_the_one_that_the_file_was_made_from(tmp_path: Path) -> None:
    folder = write_tiny_llama(tmp_path / "folder", tied=False)
    path = write_tiny_gguf(tmp_path / "model.gguf", tied=False)
    _assert_same_weights(load_source(path).module, load_source(folder).module)


def test_a_wrong_permutation_would_be_noticed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import modeling_gguf_pytorch_utils as slow

    from jisu.exporter.sources.gguf import layouts

    path = write_tiny_gguf(tmp_path / "model.gguf")
    reference = _load_slowly(path)
    monkeypatch.setattr(layouts, "INTERLEAVED", frozenset())
    monkeypatch.delitem(slow.TENSOR_PROCESSORS, "llama")
    with pytest.raises(AssertionError, match="q_proj"):
        _assert_same_weights(load_source(path).module, reference)


def test_rotary_factors_of_the_file_are_applied(tmp_path: Path) -> None:
    import numpy as np
    import torch

    factors = np.linspace(1, 8, 8)
    plain = load_source(write_tiny_gguf(tmp_path / "plain.gguf")).module
    scaled = load_source(write_tiny_gguf(tmp_path / "scaled.gguf", extra={"rope_freqs.weight": factors})).module
    expected = plain.model.rotary_emb.inv_freq / torch.from_numpy(factors.astype(np.float32))
    torch.testing.assert_close(scaled.model.rotary_emb.inv_freq, expected, rtol=0, atol=0)


@pytest.mark.slow
def test_the_real_model_equals_that_of_the_slow_loader(smollm2_gguf: Path) -> None:
    source = load_source(smollm2_gguf)
    assert source.model.parameters == 134_515_008
    assert source.weight_bytes == 4 * source.model.parameters
    _assert_same_weights(source.module, _load_slowly(smollm2_gguf))


def _load_slowly(path: Path) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    config, _ = read_config(read_gguf_header(path))
    with quiet_transformers():
        return AutoModelForCausalLM.from_pretrained(
            path.parent, config=config, gguf_file=path.name, dtype=torch.float32
        )


def _assert_same_weights(model: Any, reference: Any) -> None:
    import torch

    use_linear_layers(reference)
    expected = reference.state_dict()
    actual = model.state_dict()
    assert actual.keys() == expected.keys()
    for name, weight in actual.items():
        assert weight.dtype == torch.float32
        assert torch.equal(weight, expected[name]), name


def _write_architecture(path: Path, architecture: str) -> Path:
    """A file with random tensors in the shapes of an architecture; what they would compute does not matter."""
    import numpy as np
    import torch
    from transformers import AutoModelForCausalLM
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS, TensorProcessor, get_gguf_hf_weights_map

    def write(tensors: dict[str, Any]) -> None:
        writer = gguf.GGUFWriter(str(path), architecture)
        for key, value in {**_COMMON, **ARCHITECTURES[architecture]}.items():
            add = {float: writer.add_float32, int: writer.add_uint32, list: writer.add_array}[type(value)]
            add(f"{architecture}.{key}", value)
        writer.add_array("tokenizer.ggml.tokens", [f"t{number}" for number in range(96)])
        for name, values in tensors.items():
            writer.add_tensor(name, values)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()

    write({"token_embd.weight": np.zeros((1, 32), np.float32)})
    # Of what transformers leaves out of the metadata it takes defaults, and its model has other shapes than the file.
    config, _ = read_config(read_gguf_header(path))
    with torch.device("meta"):
        model = AutoModelForCausalLM.from_config(config)
    processor = TENSOR_PROCESSORS.get(architecture, TensorProcessor)(config=config.to_dict())
    shapes = {name: tuple(weight.shape) for name, weight in model.state_dict().items()}
    rng = np.random.default_rng(0)
    tensors = {}
    for name, target in get_gguf_hf_weights_map(model, processor).items():
        shape = shapes[target]
        if "_exps" in name and "down" not in name:
            shape = (shape[0], shape[1] // 2, shape[2])
        if "shortconv.conv" in name:
            shape = (shape[0], shape[2])
        if architecture == "gpt2" and any(
            part in name for part in ("attn_qkv.w", "ffn_down.w", "ffn_up.w", "attn_output.w")
        ):
            shape = shape[::-1]
        if not (name == "output.weight" and config.tie_word_embeddings):
            suffix = ".weight" if name.endswith("_exps") else ""
            tensors[name + suffix] = rng.standard_normal(shape).astype(np.float32)
    write(tensors)
    return path
