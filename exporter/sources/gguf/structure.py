"""What a GGUF file tells of a model's layers: windows, experts, biases, recurrent layers and factors."""

from __future__ import annotations

from typing import Any

from jisu.exporter.sources.gguf.comparison import NO_COUNTERPART, UNLIKE, are_equal, switched_off
from jisu.exporter.sources.gguf.key_places import KeyPlaces

# Scores of experts that a class computes by default, by llama.cpp's number; softmax everywhere else.
_GATES = {"minimax_m2": 2, "gpt_oss": 3}
# Whether llama.cpp lets the chosen experts' weights add up to one, where the file does not say.
_NORMED = {"qwen2_moe": False, "qwen3_moe": True}
# Classes whose biases of attention are those of queries, keys and values only.
_NO_OUTPUT_BIAS = ("glm4", "seed_oss")
_OLMO_EPSILON = 1e-5
# Classes that cannot be built or run without a window.
_ALWAYS_WINDOWED = ("gemma2", "gemma3_text", "cohere2")
# Gemma divides scores by the root of the head size; of its largest models, known by their layers, by another number.
_GEMMA_LARGEST = {"gemma2": 46, "gemma3_text": 62}


def set_windows(keys: KeyPlaces) -> None:
    """Which layers look at a window only, and how long it is."""
    key, pattern_key = "attention.sliding_window", "attention.sliding_window_pattern"
    layers = keys.stated["block_count"]
    default = 4096 if keys.model_type == "gemma2" else 0
    window, pattern = keys.stated.get(key, default), keys.stated.get(pattern_key)
    if "sliding_window" not in keys.declared:
        for name in (key, pattern_key):
            if name in keys.left:
                keys.settle(name, *switched_off(keys.left[name], (0, False)))
        return
    # Gemma's class makes a mask for windows whether a layer has one or not; one of all positions hides nothing.
    unused = keys.stated["context_length"] if keys.model_type in _ALWAYS_WINDOWED else None
    keys.settings["sliding_window"] = window or unused
    keys.put_stated(key, "sliding_window", window or unused)
    local = _local_layers(pattern, layers)
    if "layer_types" not in keys.declared:
        if window and local is not None and not all(local):
            keys.settle(pattern_key, "refused", NO_COUNTERPART)
        elif pattern is not None:
            keys.settle(pattern_key, "derived", "all layers are alike")
        return
    if not window:
        local = [False] * layers
    if local is not None and len(local) == layers:
        keys.settings["layer_types"] = ["sliding_attention" if one else "full_attention" for one in local]
        keys.put_stated(pattern_key, "layer_types", keys.settings["layer_types"])
    elif pattern is not None:
        keys.settle(pattern_key, "refused", f"one value for each of {layers} layers is needed")
    if "use_sliding_window" in keys.declared:
        keys.settings["use_sliding_window"] = bool(window)
        if window and pattern is None:
            keys.places.pop(key, None)
            keys.state(key, "refused", f"without {pattern_key} nothing says for which layers")


def set_experts(keys: KeyPlaces) -> None:
    """How experts are chosen and how wide they are."""
    gate = "expert_gating_func"
    if gate in keys.left:
        fits = keys.left[gate] in (0, _GATES.get(keys.model_type, 1))
        keys.settle(gate, "used" if fits else "refused", "" if fits else UNLIKE)
    if keys.model_type in _NORMED:
        keys.settings["norm_topk_prob"] = keys.stated.get("expert_weights_norm", _NORMED[keys.model_type])
        width, chosen = keys.stated.get("feed_forward_length", 0), keys.stated.get("expert_used_count", 1)
        if "moe_intermediate_size" in keys.declared and not keys.stated.get("expert_feed_forward_length"):
            keys.settings["moe_intermediate_size"] = width // max(chosen, 1)
        if "shared_expert_intermediate_size" in keys.declared:
            keys.settings["shared_expert_intermediate_size"] = width


def set_structure(keys: KeyPlaces) -> None:
    """What the file tells by the tensors that it has, or that follows from its architecture."""
    if "query_pre_attn_scalar" in keys.declared and keys.head_size:
        largest = _GEMMA_LARGEST.get(keys.model_type) == keys.stated["block_count"]
        keys.settings["query_pre_attn_scalar"] = (
            keys.stated["embedding_length"] // keys.stated["attention.head_count"] if largest else keys.head_size
        )
    _set_scales(keys)
    if "use_parallel_residual" in keys.declared:
        # Models with one norm for both parts of a layer run them side by side.
        keys.settings["use_parallel_residual"] = keys.stated.get("use_parallel_residual", not keys.has("ffn_norm"))
    if "block_auto_adjust_ff_dim" in keys.declared:
        keys.settings["block_auto_adjust_ff_dim"] = False  # the file's width is the final one
    biases = {
        "attention_bias": ("attn_q.bias",)
        if keys.model_type in _NO_OUTPUT_BIAS
        else ("attn_qkv.bias" if keys.model_type == "gpt_neox" else "attn_q.bias", "attn_output.bias"),
        "attention_out_bias": ("attn_output.bias",),
        "conv_bias": ("shortconv.conv.bias",),
        "mlp_bias": ("ffn_down.bias",),
        "use_qkv_bias": ("attn_q.bias",),
        "use_bias": ("ssm_in.bias" if keys.model_type == "mamba" else "attn_q.bias",),
        "use_conv_bias": ("ssm_conv1d.bias",),
    }
    for field, names in biases.items():
        if field in keys.declared:
            keys.settings[field] = all(keys.has(name) for name in names)
    if "feed_forward_proj" in keys.declared:
        gated = keys.has("ffn_gate.weight")
        keys.settings["feed_forward_proj"] = "gated-gelu" if gated else "relu"
    if keys.model_type == "mamba" and "ssm.inner_size" in keys.left:
        inner, width = keys.left["ssm.inner_size"], keys.stated["embedding_length"]
        keys.settings["expand"] = inner / width if inner % width else inner // width
        keys.place("ssm.inner_size", "intermediate_size", inner, stated=False)
    elif "linear_value_head_dim" in keys.declared and "ssm.inner_size" in keys.left:
        heads = keys.stated.get("ssm.time_step_rank", 1)
        keys.place("ssm.inner_size", "linear_value_head_dim", keys.left["ssm.inner_size"] // max(heads, 1))
    if "linear_value_head_dim" in keys.declared:
        _set_recurrent_layers(keys, keys.places["block_count"][1])
    if keys.model_type == "olmo" and "attention.layer_norm_epsilon" in keys.left:
        fits = are_equal(keys.left["attention.layer_norm_epsilon"], _OLMO_EPSILON)
        keys.settle(
            "attention.layer_norm_epsilon",
            *(("derived", "a constant of the class") if fits else ("refused", UNLIKE)),
        )
    if keys.model_type == "bloom" and "feed_forward_length" in keys.left:
        fits = keys.left["feed_forward_length"] == 4 * keys.stated["embedding_length"]
        keys.settle("feed_forward_length", "derived" if fits else "refused", "4 x embedding_length" if fits else UNLIKE)


def _set_recurrent_layers(keys: KeyPlaces, layers: int) -> None:
    interval, listed = keys.left.get("full_attention_interval", 4), keys.left.get("attention.recurrent_layers")
    recurrent = [bool((layer + 1) % max(interval, 1)) for layer in range(layers)]
    if listed is not None:
        recurrent = [bool(one) for one in listed[:layers]] if isinstance(listed, tuple) else [bool(listed)] * layers
    keys.settings["layer_types"] = ["linear_attention" if one else "full_attention" for one in recurrent]
    keys.put_stated("attention.recurrent_layers", "layer_types", keys.settings["layer_types"])
    if listed is None:
        keys.put_stated("full_attention_interval", "layer_types", keys.settings["layer_types"])
    else:
        keys.settle("full_attention_interval", "derived", "attention.recurrent_layers")


def _set_scales(keys: KeyPlaces) -> None:
    """Factors of scores and logits, which classes of transformers call by different names."""
    key = "attention.scale"
    if key in keys.left:
        scale = keys.left[key]
        if "attention_multiplier" in keys.declared and scale:
            keys.place(key, "attention_multiplier", scale)
        elif "query_pre_attn_scalar" in keys.declared and scale:
            divisor = scale**-2
            whole = round(divisor)
            keys.place(key, "query_pre_attn_scalar", whole if are_equal(whole, divisor) else divisor)
        else:
            usual = keys.head_size**-0.5 if keys.head_size else 0
            keys.settle(key, *switched_off(scale, (0, usual)))
    key = "logit_scale"
    if key in keys.left:
        name = next((one for one in ("logit_scale", "logits_scaling") if one in keys.declared), None)
        if name is None or not keys.left[key]:
            keys.settle(key, *switched_off(keys.left[key], (0, 1)))
        else:
            keys.place(key, name, keys.left[key])


def _local_layers(pattern: Any, layers: int) -> list[bool] | None:
    """Which layers look at a window only: listed one by one, or all but every n-th; None where nothing tells."""
    if isinstance(pattern, tuple):
        return [bool(one) for one in pattern]
    if isinstance(pattern, bool):
        return [pattern] * layers
    if isinstance(pattern, int):
        return [pattern == 0 or layer % pattern < pattern - 1 for layer in range(layers)]
    return None
