"""GGUF files of tiny random models of many families, laid out as llama.cpp's converter lays them out."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from pathlib import Path
from typing import Any

VOCAB = 64
POSITIONS = 333
_SMALL = {
    "vocab_size": VOCAB,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": POSITIONS,
    "bos_token_id": None,
    "eos_token_id": None,
    "pad_token_id": None,
}
# The name of a GGUF architecture, the transformers model and its configuration, each with numbers that are no default.
FAMILIES: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "llama": ("llama", "Llama", {"rope_parameters": {"rope_type": "linear", "rope_theta": 777.0, "factor": 3.0}}),
    "llama-head": ("llama", "Llama", {"head_dim": 12, "rms_norm_eps": 3e-4}),
    "qwen2": ("qwen2", "Qwen2", {"rope_parameters": {"rope_type": "default", "rope_theta": 777.0}}),
    "qwen3": ("qwen3", "Qwen3", {"head_dim": 12, "rms_norm_eps": 3e-4}),
    "starcoder2": (
        "starcoder2",
        "Starcoder2",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 777.0}, "sliding_window": 7, "norm_epsilon": 3e-4},
    ),
    "phi3": (
        "phi3",
        "Phi3",
        {
            "rope_parameters": {"rope_type": "default", "rope_theta": 777.0, "partial_rotary_factor": 0.5},
            "sliding_window": 7,
        },
    ),
    "stablelm": (
        "stablelm",
        "StableLm",
        {"rope_parameters": {"rope_type": "default", "rope_theta": 777.0, "partial_rotary_factor": 0.5}},
    ),
    "nemotron": (
        "nemotron",
        "Nemotron",
        {
            "norm_eps": 3e-2,
            "rope_parameters": {"rope_type": "default", "rope_theta": 77.0, "partial_rotary_factor": 0.25},
        },
    ),
    "gemma2": (
        "gemma2",
        "Gemma2",
        {"head_dim": 12, "query_pre_attn_scalar": 12, "sliding_window": 7, "final_logit_softcapping": 4.0},
    ),
    "gemma3": (
        "gemma3",
        "Gemma3",
        {
            "head_dim": 12,
            "query_pre_attn_scalar": 12,
            "sliding_window": 7,
            "layer_types": ["full_attention", "sliding_attention"],
            "rope_parameters": {
                "full_attention": {"rope_type": "linear", "rope_theta": 777.0, "factor": 3.0},
                "sliding_attention": {"rope_type": "default", "rope_theta": 77.0},
            },
        },
    ),
    "gemma4": (
        "gemma4",
        "Gemma4",
        {
            "head_dim": 8,
            "global_head_dim": 16,
            "num_hidden_layers": 3,
            "layer_types": ["sliding_attention", "full_attention", "full_attention"],
            "hidden_size_per_layer_input": 4,
            "vocab_size_per_layer_input": VOCAB,
            "sliding_window": 7,
            "num_kv_shared_layers": 1,
        },
    ),
    "granitemoe": (
        "granitemoe",
        "GraniteMoe",
        {"num_local_experts": 4, "num_experts_per_tok": 2, "logits_scaling": 3.0, "attention_multiplier": 0.2},
    ),
    "falcon": (
        "falcon",
        "Falcon",
        {"num_kv_heads": 2, "new_decoder_architecture": True, "bias": False, "layer_norm_epsilon": 3e-2},
    ),
    "gpt2": ("gpt2", "GPT2LMHead", {"n_positions": POSITIONS, "layer_norm_epsilon": 3e-2}),
}


def family_model(family: str, **changes: Any) -> Any:
    """The random model of a family, in eval mode; every weight differs from what a class begins with."""
    import torch
    import transformers

    _, name, settings = FAMILIES[family]
    model_class = getattr(transformers, f"{name}Model" if name.endswith("LMHead") else f"{name}ForCausalLM")
    fields = {field.name for field in dataclasses.fields(model_class.config_class)}
    fields |= set(model_class.config_class.attribute_map)
    small = {key: value for key, value in _SMALL.items() if key in fields}
    config = model_class.config_class(**{**small, **settings, **changes})
    model = model_class(config).eval()
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.copy_(torch.randn(parameter.shape, generator=generator) * 0.25)
    model.tie_weights()
    return model


def write_family(
    path: Path,
    family: str,
    model: Any,
    *,
    settings: Mapping[str, Any] | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Path:
    """Write a model as a GGUF file without a tokenizer; returns the path.

    Args:
        path: of the file.
        family: one of FAMILIES.
        model: of the family.
        settings: metadata in place of what the model says; None leaves a key out. A key without a dot in front of its
            architecture's name is given as it is.
        extra: further tensors by name.
    """
    import gguf
    import numpy as np

    architecture = FAMILIES[family][0]
    writer = gguf.GGUFWriter(str(path), architecture)
    metadata = {f"{architecture}.{key}": value for key, value in _metadata(model.config).items()}
    metadata |= {key if "." in key else f"{architecture}.{key}": value for key, value in (settings or {}).items()}
    for key, value in metadata.items():
        add_value(writer, key, value)
    arch = next(one for one, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    names = gguf.get_tensor_name_map(arch, model.config.num_hidden_layers)
    if architecture == "gemma4":
        turned = config_share(model.config)
        writer.add_tensor("rope_freqs.weight", np.array([1.0] * turned + [1e30] * (8 - turned), np.float32))
    for name, weight in model.state_dict().items():
        name = f"{name}.weight" if name.endswith("layer_scalar") else name
        if ".experts." in name:
            layer = f"blk.{name.split('.layers.')[1].split('.')[0]}"
            halves = np.split(weight.numpy(), 2, axis=1) if "gate_up" in name else [weight.numpy()]
            for part, values in zip(("gate", "up") if len(halves) == 2 else ("down",), halves, strict=True):
                writer.add_tensor(f"{layer}.ffn_{part}_exps.weight", np.ascontiguousarray(values, np.float32))
            continue
        name = name.replace("block_sparse_moe.router", "mlp.gate")
        stem, _, suffix = name.rpartition(".")
        stored = f"{names.get_name(stem) or names.get_name(stem.removeprefix('transformer.'))}.{suffix}"
        if name == "lm_head.weight" and model.config.tie_word_embeddings:
            continue
        values = _laid_out(architecture, stored, weight.numpy(), model.config)
        writer.add_tensor(stored, np.ascontiguousarray(values, np.float32))
    for name, values in (extra or {}).items():
        writer.add_tensor(name, np.asarray(values, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def config_share(config: Any) -> int:
    """How many frequencies Gemma 4's whole layers turn by."""
    return int(config.rope_parameters["full_attention"]["partial_rotary_factor"] * 16) // 2


def add_value(writer: Any, key: str, value: Any) -> None:
    """Add one key to a GGUF writer, in the type that llama.cpp's converter gives it."""
    if isinstance(value, (list, tuple)):
        writer.add_array(key, list(value))
    elif isinstance(value, bool):
        writer.add_bool(key, value)
    elif value is not None:
        {str: writer.add_string, int: writer.add_uint32, float: writer.add_float32}[type(value)](key, value)


def _metadata(config: Any) -> dict[str, Any]:
    rope = getattr(config, "rope_parameters", None) or {}
    whole = rope.get("full_attention", rope)
    size = 8  # of the gemma4 above, where layers differ
    if config.model_type != "gemma4_text":
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
    epsilons = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")
    heads = getattr(config, "num_kv_heads", None) or getattr(config, "num_key_value_heads", None)
    kinds = getattr(config, "layer_types", None)
    if config.model_type == "gemma4_text":
        own = {
            "attention.key_length": 16,
            "attention.value_length": 16,
            "attention.key_length_swa": size,
            "attention.value_length_swa": size,
            "attention.shared_kv_layers": config.num_kv_shared_layers,
            "embedding_length_per_layer_input": config.hidden_size_per_layer_input,
            "rope.dimension_count": 16,
            "rope.dimension_count_swa": size,
        }
    else:
        own = {}
    common = {
        "context_length": config.max_position_embeddings,
        "embedding_length": config.hidden_size,
        "block_count": config.num_hidden_layers,
        "feed_forward_length": getattr(config, "intermediate_size", None) or 4 * config.hidden_size,
        "vocab_size": config.vocab_size,
        "attention.head_count": config.num_attention_heads,
        "attention.head_count_kv": heads or config.num_attention_heads,
        "attention.layer_norm_epsilon": next(getattr(config, name) for name in epsilons if hasattr(config, name)),
        "attention.key_length": size,
        "attention.value_length": size,
        "attention.sliding_window": getattr(config, "sliding_window", None),
        "attention.sliding_window_pattern": kinds and [kind == "sliding_attention" for kind in kinds],
        "rope.dimension_count": int(size * whole.get("partial_rotary_factor", 1.0)) if whole else None,
        "rope.freq_base": whole.get("rope_theta"),
        "rope.freq_base_swa": rope.get("sliding_attention", {}).get("rope_theta"),
        "rope.scaling.type": "linear" if whole.get("factor") else None,
        "rope.scaling.factor": whole.get("factor"),
        "expert_count": getattr(config, "num_local_experts", None),
        "expert_used_count": getattr(config, "num_experts_per_tok", None),
        "logit_scale": getattr(config, "logits_scaling", None),
        "attention.scale": getattr(config, "attention_multiplier", None),
        "final_logit_softcapping": getattr(config, "final_logit_softcapping", None),
        "attn_logit_softcapping": getattr(config, "attn_logit_softcapping", None),
    }
    return common | own


def _laid_out(architecture: str, name: str, values: Any, config: Any) -> Any:
    import numpy as np

    if architecture in ("llama", "granitemoe") and (".attn_q." in name or ".attn_k." in name):
        heads = config.num_attention_heads if ".attn_q." in name else config.num_key_value_heads
        return values.reshape(heads, 2, -1, *values.shape[1:]).swapaxes(1, 2).reshape(values.shape)
    if architecture in ("gemma2", "gemma3", "nemotron") and name.endswith("norm.weight"):
        return values + 1
    if architecture == "gpt2" and values.ndim == 2 and "blk." in name:
        return values.T
    if architecture == "falcon" and "attn_qkv" in name:
        groups = values.reshape(
            config.num_kv_heads, -1, config.hidden_size // config.num_attention_heads, values.shape[1]
        )
        parts = (groups[:, :-2], groups[:, -2:-1], groups[:, -1:])
        return np.concatenate([part.reshape(-1, values.shape[1]) for part in parts])
    return values
