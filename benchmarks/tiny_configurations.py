"""A small configuration with the shape of any transformers causal language model's own defaults.

One set of attribute names for sizes serves all model types; what a class computes from sizes it computes again.
"""

from __future__ import annotations

from typing import Any

HIDDEN, HEADS, LAYERS, VOCABULARY, POSITIONS, WINDOW = 64, 4, 2, 384, 512, 8
MOST_LAYERS = 8
# attribute -> its small value; integers above it are replaced, everything else stays as the class has it.
_SIZES: dict[str, int] = {
    **dict.fromkeys(("hidden_size", "n_embd", "d_model", "dim", "embed_dim", "word_embed_proj_dim"), HIDDEN),
    **dict.fromkeys(("embedding_size", "width", "lru_width", "mamba_d_ssm", "attention_hidden_size"), HIDDEN),
    **dict.fromkeys(("intermediate_size", "ffn_dim", "n_inner", "d_ff", "ffn_hidden_size", "hidden_dim"), 96),
    **dict.fromkeys(("moe_intermediate_size", "shared_expert_intermediate_size", "block_ff_dim"), 32),
    **dict.fromkeys(("encoder_ffn_dim", "decoder_ffn_dim", "moe_shared_expert_intermediate_size"), 96),
    **dict.fromkeys(("expert_ffn_hidden_size", "shared_intermediate_size", "intermediate_size_mlp"), 32),
    **dict.fromkeys(("hidden_size_per_layer_input",), 16),
    **dict.fromkeys(("vocab_size", "vocab_size_per_layer_input"), VOCABULARY),
    **dict.fromkeys(("num_hidden_layers", "n_layer", "n_layers", "num_layers"), LAYERS),
    **dict.fromkeys(("decoder_layers", "encoder_layers", "num_mem_blocks"), LAYERS),
    **dict.fromkeys(("num_attention_heads", "n_head", "n_heads", "num_heads"), HEADS),
    **dict.fromkeys(("encoder_attention_heads", "decoder_attention_heads", "mamba_n_heads", "mamba_num_heads"), HEADS),
    **dict.fromkeys(("linear_num_key_heads", "linear_num_value_heads", "swa_num_attention_heads"), HEADS),
    **dict.fromkeys(("num_key_value_heads", "num_kv_heads", "n_head_kv", "multi_query_group_num"), 2),
    **dict.fromkeys(("swa_num_key_value_heads", "num_global_key_value_heads", "n_groups", "mamba_n_groups"), 2),
    **dict.fromkeys(("head_dim", "attention_head_dim", "qk_nope_head_dim", "v_head_dim", "kv_lora_rank"), 16),
    **dict.fromkeys(("swa_head_dim", "global_head_dim", "q_lora_rank", "rotary_dim", "linear_key_head_dim"), 16),
    **dict.fromkeys(("linear_value_head_dim", "index_head_dim", "head_size", "kv_channels", "swa_v_head_dim"), 16),
    **dict.fromkeys(("qk_rope_head_dim", "index_n_heads", "index_topk"), 8),
    **dict.fromkeys(("mamba_d_head", "mamba_head_dim", "mamba_headdim"), 32),
    **dict.fromkeys(("state_size", "mamba_d_state", "ssm_state_size"), 8),
    **dict.fromkeys(("num_local_experts", "num_experts", "n_routed_experts", "moe_num_experts"), 4),
    **dict.fromkeys(("num_experts_per_tok", "moe_topk", "moe_k", "top_k_experts", "num_experts_per_token"), 2),
    **dict.fromkeys(("n_group", "n_groups_routing", "topk_group", "n_shared_experts", "first_k_dense_replace"), 1),
    **dict.fromkeys(
        ("max_position_embeddings", "n_positions", "n_ctx", "max_sequence_length", "max_seq_len"), POSITIONS
    ),
    **dict.fromkeys(("seq_length", "original_max_position_embeddings"), POSITIONS),
    **dict.fromkeys(("sliding_window", "attention_window_size", "window_size", "attention_chunk_size"), WINDOW),
    **dict.fromkeys(("mamba_chunk_size", "chunk_size"), WINDOW),
    **dict.fromkeys(("attn_layer_period", "expert_layer_period", "full_attention_interval"), 2),
    **dict.fromkeys(("attn_layer_offset", "expert_layer_offset"), 1),
    **dict.fromkeys(("num_nextn_predict_layers", "num_kv_shared_layers"), 0),
}
_LAYERS = [name for name, size in _SIZES.items() if size == LAYERS and "layer" in name and "period" not in name]
# Lists with an entry per layer: made again by the class when they are left out.
_IDS = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}


def tiny_configuration(config_class: Any, **changes: Any) -> Any:
    """A configuration of the class that is small in every way, with enough layers for each kind that it has.

    Args:
        config_class: a transformers configuration class.
        changes: settings that are given as they are.
    """
    default = config_class()
    wanted = set(_kinds(default))
    for layers in range(LAYERS, MOST_LAYERS + 1):
        config = _shrunk(config_class, default, layers, changes)
        if wanted <= set(_kinds(config)):
            break
    return config


def _kinds(config: Any) -> list[str]:
    kinds = getattr(config, "layer_types", None) or getattr(config, "layers_block_type", None) or []
    return [str(kind) for kind in kinds]


def _shrunk(config_class: Any, default: Any, layers: int, changes: dict[str, Any]) -> Any:
    settings: dict[str, Any] = {}
    known = default.to_dict()
    renamed: dict[str, str] = dict(getattr(default, "attribute_map", {}))
    for name in {**_SIZES, **_IDS}:
        if renamed.get(name) in known or name not in known:
            continue
        value, small = known[name], {**_SIZES, **_IDS}[name]
        if name in _IDS or (value is None and "experts_per" in name):
            settings[name] = small
        elif isinstance(value, int) and not isinstance(value, bool) and value > small:
            settings[name] = layers if name in _LAYERS else small
    if known.get("head_dim") is not None and known.get("head_dim") == known.get("qk_rope_head_dim"):
        settings["head_dim"] = settings["qk_rope_head_dim"]
    if {"expand", "num_heads", "head_dim"} <= set(known):  # the heads of a state-space block fill its width
        settings["num_heads"] = known["expand"] * HIDDEN // settings["head_dim"]
    if "attention_types" in known:  # [[[kind, ...], repeats], ...] for all layers
        settings["attention_types"] = [[known["attention_types"][0][0], layers // 2]]
    heads = next((known[name] for name in ("num_attention_heads", "n_head") if name in known), None)
    for name in ("num_key_value_heads", "num_kv_heads"):
        if name in settings and known.get(name) == heads:
            settings[name] = HEADS
    return config_class(**{**settings, **changes})
