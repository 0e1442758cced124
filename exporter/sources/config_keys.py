"""What becomes of every key of a configuration file: read, without influence, unread, or refused.

Made from the file and from what transformers made of it: a value that the configuration object does not hold as the
file states it, a key that only resembles one that the model reads, and a key that names a part of the computation
which this model class does not have would all become defaults without a word.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from jisu.exporter.sources.account import Account, Fate
from jisu.exporter.sources.classifier import CROSS_ENCODER_KEYS
from jisu.exporter.sources.config_reads import converted_keys, declared_keys, model_keys
from jisu.exporter.sources.key_spelling import nearest_key
from jisu.exporter.sources.rotary_keys import judge_rotary

# Says where a checkpoint came from, how it was trained, or how a program is to run it; never what it computes.
_HARMLESS = re.compile(
    r"_.*|architectures|model_type|auto_map|(torch_)?dtype|name_or_path|\w*version|use_cache|pretraining_tp|\w*dropout\w*|"
    r"\w*(_pdrop|_drop|drop_rate|_dropout_prob)|\w*loss\w*|output_(attentions|hidden_states|router_logits)|return_dict\w*|"
    r"\w*init(ializer)?_(range|std|factor|method|scale|gain|device)|initializer\w*|init|gradient_\w+|\w*checkpointing|torchscript|"
    r"use_bfloat16|fp16|bf16|fp32|pruned_heads|(attn|experts)_implementation|\w*flash_?attn\w*|use_fused_\w+|fused_\w+|"
    r"unsloth\w*|\w*tokenizer\w*|task_specific_params|finetuning_task|problem_type|num_labels|id2label|label2id|"
    r"(bos|eos|pad|unk|sep|cls|mask)_token|\w*license\w*|author|description|model_name|transformers[._]js_config|"
    r"is_llama_config|tp|ep_size|tensor_parallel\w*|\w*_parallel_size|deepspeed\w*|seed|dataset\w*|train\w*|lora_\w+|"
    r"quantization_config|compression_config|quantization|use_mambapy|cache_\w+|output_past|use_fast_path|use_kernels?|language|library_name|"
    r"base_model\w*|tags|datasets|prefix|max_batch_size|mlp_hidden_dropout|summary_\w+|\w*aux_loss\w*|router_aux\w*|seq_aux|"
    r"chunk_size_feed_forward|num_nextn_predict_layers|mtp_\w+|n_mtp\w*|num_mtp\w*|model_max_length|tie_weights_?"
)
# Special tokens of any model, which the tokenizer's files state as well.
_TOKENS = frozenset(f"{role}_token_id" for role in ("bos", "eos", "pad", "unk", "sep", "cls", "mask", "eod"))
# Different spellings of one size or constant: a class reads one of each.
_SPELLINGS = (
    ("hidden_size", "n_embd", "n_embed", "d_model", "dim", "model_dim"),
    ("num_hidden_layers", "n_layer", "n_layers", "num_layers"),
    ("num_attention_heads", "n_head", "n_heads", "num_heads", "encoder_attention_heads"),
    ("num_key_value_heads", "num_kv_heads", "n_kv_heads", "n_head_kv", "multi_query_group_num"),
    ("intermediate_size", "n_inner", "ffn_dim", "d_ff", "ffn_hidden_size", "hidden_dim"),
    ("head_dim", "kv_channels", "d_kv", "attention_head_dim"),
    ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "layernorm_epsilon", "norm_eps", "norm_epsilon"),
    ("hidden_act", "activation_function", "hidden_activation", "hidden_activations", "activation_type"),
    ("rope_theta", "rotary_emb_base", "rope_base", "rotary_base"),
    ("partial_rotary_factor", "rotary_pct", "rope_pct", "rotary_percent"),
    ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts"),
    ("num_experts_per_tok", "num_experts_per_token", "experts_per_token", "moe_top_k", "moe_topk", "top_k_experts"),
)
# Lengths differ honestly: that of training, of the text that a program allows, and of a scaled model.
_LENGTHS = (
    "max_position_embeddings", "n_positions", "n_ctx", "max_seq_len", "seq_length", "max_sequence_length", "seq_len",
)  # fmt: skip
# Parts of a computation. A class that does not read such a key does not have the part.
_COMPUTES = re.compile(
    r"sliding_window\w*|attention_window|window_size|local_attention\w*|attention_chunk_size|"
    r"\w*soft_?cap(ping)?\w*|logits?_(scale|scaling|multiplier)|\w*(embedding|residual|attention|mup)_multiplier|"
    r"scale_(emb|depth|embeddings?)|embedding_scale|query_pre_attn_scalar|"
    r"use_qk_norm|qk_norm|qk_layernorm|use_qkv_bias|qkv_bias|clip_qkv|alibi|use_alibi|attention_sinks?|attn_sinks?|"
    r"rope_(?!theta)\w+|rotary_\w+|use_rope|use_rotary\w*|position_embedding_type|parallel_attn|parallel_residual|use_parallel_residual|"
    r"no_rope_layers|nope_\w+|use_mrope|transformers_weights|is_causal|partial_rotary_factor|attention_temperature\w*|attn_temperature\w*|altup\w*|laurel\w*"
)
_NEUTRAL: tuple[Any, ...] = (None, False, "", "none", "default", "rope", "rotary", "absolute", [], {})
_MULTIPLIES = re.compile(r"multiplier|scale|scaling|factor|pct|percent")
# Values that the classes convert on purpose, or that are set when a model is loaded.
_CONVERTED = ("dtype", "torch_dtype", "num_labels", "use_cache", "rope_theta", "partial_rotary_factor")


def account_for_config(
    account: Account, stated: Mapping[str, Any], config: Any, model: Any, *, path: str = ""
) -> Account:
    """Add a statement for each key of a configuration file, nested configurations included.

    Args:
        account: to add to.
        stated: the file's object.
        config: what transformers made of it.
        model: built from it, on any device.
        path: of a nested configuration, ending in a dot.
    """
    known = declared_keys(type(config))
    spellings = known | converted_keys(type(config)) | ({"rope_theta"} if hasattr(config, "rope_parameters") else set())
    read = spellings | model_keys(model)
    account = judge_rotary(account, stated, config, read, path=path)
    generation = _generation_keys()
    for key, value in stated.items():
        if key in ("rope_scaling", "rope_parameters") and isinstance(value, Mapping):
            continue
        inner = _held(config, key, None) if key in read else None
        if isinstance(value, Mapping) and hasattr(inner, "get_text_config") and hasattr(inner, "to_dict"):
            account = account_for_config(account, value, inner, model, path=f"{path}{key}.")
            continue
        named = value if isinstance(value, (list, str)) else ()
        if key == "architectures" and not path and named and type(model).__name__ not in named:
            account = account.state("config", key, fate="unread", why=f"loaded as {type(model).__name__}: {value}")
            continue
        fate, why = _judge(key, value, stated, config, known=known, spellings=spellings, read=read)
        kind = "generation" if fate == "unread" and key in generation else "config"
        account = account.state(kind, f"{path}{key}", fate=fate, why=why)  # type: ignore[arg-type]
    return account


def _judge(
    key: str,
    value: Any,
    stated: Mapping[str, Any],
    config: Any,
    *,
    known: set[str],
    spellings: set[str],
    read: set[str],
) -> tuple[Fate, str]:
    """The fate of one key.

    Args:
        known: keys that the configuration class declares.
        spellings: these, and those that its source mentions; what a misspelled key can have meant.
        read: these, and those that the source of the model mentions.
    """
    if key in read or key in getattr(config, "attribute_map", {}):
        return _compare(key, value, config, known)
    if key in CROSS_ENCODER_KEYS:
        return "used", ""
    near = nearest_key(key, spellings - stated.keys())
    meant_otherwise = near is not None and not _HARMLESS.fullmatch(near)
    if _HARMLESS.fullmatch(key) and not (meant_otherwise and key.startswith("_")):
        return "harmless", ""
    if key in _generation_keys():
        if value in _NEUTRAL or key in ("max_length", "min_length"):
            return "harmless", ""
        return "unread", "generation settings in config.json, which transformers reads from generation_config.json only"
    if (alias := _judge_spelling(key, value, stated, config, read)) is not None:
        return alias
    if meant_otherwise:
        return "refused", f"the model reads {near}, which is not stated"
    if key in _TOKENS:
        return "used", ""
    if _is_neutral(key, value) or (key == "sliding_window" and stated.get("use_sliding_window") is False):
        return "harmless", ""
    if _COMPUTES.fullmatch(key):
        return "refused", f"{type(config).__name__} has no such part; remove the key if the model has none either"
    return "unread", ""


def _compare(key: str, value: Any, config: Any, known: set[str]) -> tuple[Fate, str]:
    """Whether the configuration object holds a number, text or flag as the file states it."""
    if key not in known or key in _CONVERTED or key.startswith("_") or not isinstance(value, (bool, int, float, str)):
        return "used", ""
    made = _held(config, key, value)
    same = made == value or (isinstance(made, (list, tuple)) and value in made)
    if same or not isinstance(made, (bool, int, float, str)):
        return "used", ""
    if _HARMLESS.fullmatch(key):
        return "harmless", ""
    return "refused", f"{value!r} is stated, and {type(config).__name__} makes {made!r} of it"


def _held(config: Any, key: str, default: Any) -> Any:
    """What a configuration object has under a key; one that differs from layer to layer refuses to say."""
    try:
        return getattr(config, key, default)
    except Exception:  # noqa: BLE001 - transformers 5.23 raises an error of its own, which is no AttributeError
        return default


def _judge_spelling(
    key: str, value: Any, stated: Mapping[str, Any], config: Any, read: set[str]
) -> tuple[Fate, str] | None:
    """The fate of a key that is another spelling of one that the class reads; None for any other key."""
    for group in (*_SPELLINGS, _LENGTHS):
        if key not in group:
            continue
        own = next((one for one in group if one in read and one != key and _held(config, one, None) is not None), None)
        if own is None:
            continue
        made = _held(config, own, None)
        if made == value or value is None:
            return "harmless", f"as {own}"
        if group is _LENGTHS and any(one in stated for one in group if one in read):
            return "unread", f"{own} is {made}"
        return "refused", f"{value!r} is stated, and the model reads {own}, which is {made!r}"
    return None


def _is_neutral(key: str, value: Any) -> bool:
    if isinstance(value, (list, dict)):
        return not value
    return value in _NEUTRAL or (bool(_MULTIPLIES.search(key)) and value is not True and value == 1)


def _generation_keys() -> set[str]:
    from transformers import GenerationConfig

    settings: Any = GenerationConfig
    return {key for key in vars(settings()) if not key.startswith("_")}
