"""A small configuration with the shape of any transformers causal language model's own defaults.

One set of attribute names for sizes serves all model types; what a class computes from sizes it computes again.
"""

from __future__ import annotations

from dataclasses import fields
from typing import Any

HIDDEN, HEADS, LAYERS, VOCABULARY, POSITIONS, WINDOW = 64, 4, 2, 384, 512, 8
MOST_LAYERS = 8
# attribute -> its small value; integers above it are replaced, everything else stays as the class has it.
_SIZES: dict[str, int] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embed_dim", "word_embed_proj_dim"), HIDDEN),
    **dict.fromkeys(("embedding_dim", "vision_output_dim", "vision_hidden_size", "adapter_in_dim"), HIDDEN),
    **dict.fromkeys(("adapter_input_size", "emb_dim", "vision_adapter_output_dim"), HIDDEN),
    **dict.fromkeys(("embedding_size", "width", "lru_width", "mamba_d_ssm", "attention_hidden_size"), HIDDEN),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_hidden_size", "hidden_dim"), 96),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "block_ff_dim"), 32),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "moe_shared_expert_intermediate_size"), 96),
    **dict.fromkeys(("expert_ffn_hidden_size", "shared_intermediate_size", "intermediate_size_mlp"), 32),
    **dict.fromkeys(("hidden_size_per_layer_input", "pronunciation_embed_dim", "shape_embed_dim"), 16),
    **dict.fromkeys(("pronunciation_vocab_size", "shape_vocab_size", "shared_experts_intermediate_size"), 32),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), LAYERS),
    **dict.fromkeys(("decoder_layers", "encoder_layers", "num_mem_blocks", "num_blocks", "depth"), LAYERS),
    **dict.fromkeys(("num_global_layers",), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), HEADS),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "mamba_n_heads", "mamba_num_heads"), HEADS),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "swa_num_attention_heads"), HEADS),
    **dict.fromkeys(("linear_num_heads", "attention_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"), 2),
    **dict.fromkeys(("swa_num_key_value_heads", "num_global_key_value_heads", "n_groups", "mamba_n_groups"), 2),
    **dict.fromkeys(("head_dim", "attention_head_dim", "qk_nope_head_dim", "v_head_dim", "kv_lora_rank"), 16),
    **dict.fromkeys(("swa_head_dim", "global_head_dim", "q_lora_rank", "rotary_dim", "linear_key_head_dim"), 16),
    **dict.fromkeys(("linear_value_head_dim", "index_head_dim", "head_size", "kv_channels", "swa_v_head_dim"), 16),
    **dict.fromkeys(("linear_head_dim", "moe_latent_size"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "index_topk"), 8),
    # As many that a token for which all of them have a negative weight, whose best keys are equal, does not occur.
    **dict.fromkeys(("index_n_heads",), 32),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 32),
    **dict.fromkeys(("state_size", "mamba_d_state", "ssm_state_size"), 8),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts", "num_experts_per_token"), 2),
    **dict.fromkeys(("n_group", "n_groups_routing", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(("num_expert_group", "num_shared_experts"), 1),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len"), POSITIONS
    ),
    **dict.fromkeys(("seq_length", "original_max_position_embeddings", "model_max_length"), POSITIONS),
    **dict.fromkeys(("encoder_hash_byte_group_vocab",), VOCABULARY),
    **dict.fromkeys(("sliding_window", "attention_window_size", "window_size", "attention_chunk_size"), WINDOW),
    **dict.fromkeys(("sliding_window_size",), WINDOW),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), WINDOW),
    **dict.fromkeys(("attn_layer_period", "expert_layer_period", "full_attention_interval"), 2),
    **dict.fromkeys(("attn_layer_offset", "expert_layer_offset"), 1),
    **dict.fromkeys(("num_nextn_predict_layers", "num_kv_shared_layers"), 0),
}
_LAYERS = [name for name, size in _SIZES.items() if size == LAYERS and "layer" in name and "period" not in name]
_LAYERS += ["num_blocks", "depth"]
# What no class computes when it is left open, though its model needs it.
_OPEN: dict[str, Any] = {
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts", "num_experts_per_token"), 2),
    "head_dim": HIDDEN // HEADS,
    "num_key_value_heads": 2,
    "n_routed_experts": 4,
    "n_shared_experts": 1,
    "indexer_n_heads": HEADS,
    "indexer_kv_heads": 1,
    "indexer_head_dim": 16,
    "indexer_budget": WINDOW,
    "indexer_compress_ratio": 4,
    # Without one, all layers of a hybrid would be of the other kind.
    "attn_layer_indices": [1],
}
_IDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
# Lists with an entry per layer. They are made again by the class when they are left out, mostly.
_LISTS = ("layer_types", "layers_block_type", "mlp_layer_types")
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}


def tiny_configuration(config_class: Any, **changes: Any) -> Any:
    """A configuration of the class that is small in every way, with enough layers for each kind that it has.

    Args:
        config_class: a transformers configuration class.
        changes: settings that are given as they are.
    """
    return _smallest(config_class, config_class(), changes)


def _smallest(config_class: Any, default: Any, changes: dict[str, Any]) -> Any:
    kinds = _kinds(default)
    # What layers of this kind share is shared by no less than two.
    least = 3 * LAYERS if "hybrid" in kinds else LAYERS
    for layers in range(least, MOST_LAYERS + 1):
        config = _shrunk(config_class, default, layers, changes)
        if kinds <= _kinds(config):
            break
    return config


def _kinds(config: Any) -> set[str]:
    return {str(kind) for name in _LISTS for kind in getattr(config, name, None) or ()}


def _shrunk(config_class: Any, default: Any, layers: int, changes: dict[str, Any]) -> Any:
    settings = _settings(default, layers)
    try:
        return config_class(**{**settings, **changes})
    except Exception:  # noqa: BLE001 - lists of the former length, which the class does not make again
        return config_class(**{**settings, **_short_lists(default, layers), **changes})


def _settings(default: Any, layers: int) -> dict[str, Any]:
    from transformers import PreTrainedConfig

    settings: dict[str, Any] = {}
    known = default.to_dict()
    renamed: dict[str, str] = dict(getattr(default, "attribute_map", {}))
    own = {field.name for field in fields(default)}
    computed = set(known) - own - {renamed[name] for name in own if name in renamed}
    for name in {**_SIZES, **_IDS, **_OPEN}:
        if renamed.get(name) in known or name not in known or name in computed:
            continue
        value, small = known[name], {**_SIZES, **_IDS, **_OPEN}[name]
        each_layer = isinstance(value, list) and name in _SIZES
        if each_layer or name in _IDS or (value is None and name in _OPEN):
            settings[name] = small
        elif isinstance(value, int) and not isinstance(value, bool) and value > small:
            settings[name] = layers if name in _LAYERS else small
    if known.get("head_dim") is not None and known.get("head_dim") == known.get("qk_rope_head_dim"):
        settings["head_dim"] = settings["qk_rope_head_dim"]
    if {"expand", "num_heads", "head_dim"} <= set(known):  # the heads of a state-space block fill its width
        settings["num_heads"] = known["expand"] * HIDDEN // settings["head_dim"]
    if known.get("attention_hidden_size") == 2 * known.get("hidden_size", 0):  # heads over two inputs side by side
        settings = {name: size for name, size in settings.items() if not name.startswith("attention_h")}
    if "attention_types" in known:  # [[[kind, ...], repeats], ...] for all layers
        settings["attention_types"] = [[known["attention_types"][0][0], layers // 2]]
    heads = next((known[name] for name in ("num_attention_heads", "n_head") if name in known), None)
    for name in ("num_key_value_heads", "num_kv_heads"):
        if name in settings and known.get(name) == heads:
            settings[name] = HEADS
    if known.get("rope_parameters") == {}:  # of each kind of layer
        settings["rope_parameters"] = {kind: dict(_ROPE) for kind in _kinds(default)}
    if "layer_types" in known and known["layer_types"] is None and "conv_L_cache" in known:
        settings["layer_types"] = _cycle(["conv", "full_attention"], layers)
    if _kinds(default) == {"linear_attention"} and "layer_types" in known and "num_key_value_heads" in known:
        settings["layer_types"] = _cycle(["linear_attention", "full_attention"], layers)
    if known.get("is_decoder") is False:  # an encoder has a language model's head only as a decoder
        settings["is_decoder"] = True
    if known.get("per_layer_config"):  # layers that differ have sizes of twice the others'
        settings["per_layer_config"] = {
            layer: {name: 2 * _SIZES[name] if name in _SIZES else value for name, value in more.items()}
            for layer, more in known["per_layer_config"].items()
            if int(layer) < layers
        }
    if known.get("languages") and not known.get("default_language"):
        settings["default_language"] = known["languages"][0]
    if "ffn_round_up_to_multiple_of" in known:  # so are queries and keys, of half the width
        settings["hidden_size"] = settings["embedding_dim"] = 2 * HIDDEN
    for name, part in vars(default).items():
        if isinstance(part, PreTrainedConfig):
            # What published files have and not every class has a default for.
            more = {"rope_theta": _ROPE["rope_theta"], "clip_qkv": 8.0} if name == "attn_config" else {}
            settings[name] = {**_smallest(type(part), part, {}).to_dict(), **more}
    return settings


def _short_lists(default: Any, layers: int) -> dict[str, list[str]]:
    lists = {name: getattr(default, name, None) for name in _LISTS if name in default.to_dict()}
    return {name: _cycle(list(dict.fromkeys(kinds)), layers) for name, kinds in lists.items() if kinds}


def _cycle(kinds: list[str], layers: int) -> list[str]:
    return [kinds[layer % len(kinds)] for layer in range(layers)]
