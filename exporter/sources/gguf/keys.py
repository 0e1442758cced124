"""What the hyper-parameters of a GGUF file are called in a transformers configuration.

The names are a closed set: those that llama.cpp reads (its ``llama-arch.cpp``, the gguf package's ``Keys``). A key has
a meaning here, is known to change no answer, or is refused; none is passed over. Rotary positions, heads and windows
depend on one another and are worked out in `gguf_rotary`, `gguf_heads` and `gguf_structure`.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, kw_only=True)
class Meaning:
    """Where the value of a key goes.

    Attributes:
        fields: of a configuration; the first that its class declares takes the value.
        off: values that switch the feature off, which a model without it has as well.
    """

    fields: tuple[str, ...]
    off: tuple[Any, ...] = ()


_EPSILONS = ("rms_norm_eps", "layer_norm_eps", "layer_norm_epsilon", "norm_epsilon", "norm_eps")

MEANINGS: Mapping[str, Meaning] = {
    "vocab_size": Meaning(fields=("vocab_size",)),
    "embedding_length": Meaning(fields=("hidden_size",)),
    "feed_forward_length": Meaning(fields=("intermediate_size", "n_inner", "d_ff", "ffn_hidden_size"), off=(0,)),
    "attention.head_count": Meaning(fields=("num_attention_heads",), off=(0,)),
    "attention.layer_norm_epsilon": Meaning(fields=_EPSILONS),
    "attention.layer_norm_rms_epsilon": Meaning(fields=_EPSILONS),
    "attention.relative_buckets_count": Meaning(fields=("relative_attention_num_buckets",)),
    "attention.clamp_kqv": Meaning(fields=("clip_qkv",), off=(0,)),
    "attention.shared_kv_layers": Meaning(fields=("num_kv_shared_layers",), off=(0,)),
    "attn_logit_softcapping": Meaning(fields=("attn_logit_softcapping",), off=(0,)),
    "final_logit_softcapping": Meaning(fields=("final_logit_softcapping",), off=(0,)),
    "router_logit_softcapping": Meaning(fields=("router_logit_softcapping",), off=(0,)),
    "residual_scale": Meaning(fields=("residual_multiplier",), off=(0, 1)),
    "embedding_scale": Meaning(fields=("embedding_multiplier",), off=(0, 1)),
    "use_parallel_residual": Meaning(fields=("use_parallel_residual",)),
    "decoder_start_token_id": Meaning(fields=("decoder_start_token_id",)),
    "decoder_block_count": Meaning(fields=("num_decoder_layers",)),
    "embedding_length_per_layer_input": Meaning(fields=("hidden_size_per_layer_input",), off=(0,)),
    "expert_count": Meaning(fields=("num_local_experts", "num_experts", "n_routed_experts"), off=(0,)),
    "expert_used_count": Meaning(fields=("num_experts_per_tok", "top_k_experts"), off=(0,)),
    "expert_feed_forward_length": Meaning(fields=("moe_intermediate_size", "intermediate_size"), off=(0,)),
    "expert_shared_feed_forward_length": Meaning(fields=("shared_expert_intermediate_size",), off=(0,)),
    "expert_shared_count": Meaning(fields=("n_shared_experts",), off=(0,)),
    "expert_weights_norm": Meaning(fields=("norm_topk_prob",)),
    "expert_weights_scale": Meaning(fields=("routed_scaling_factor",), off=(0, 1)),
    "expert_group_count": Meaning(fields=("n_group",), off=(0, 1)),
    "expert_group_used_count": Meaning(fields=("topk_group",), off=(0, 1)),
    "leading_dense_block_count": Meaning(fields=("first_k_dense_replace",), off=(0,)),
    "ssm.conv_kernel": Meaning(fields=("linear_conv_kernel_dim", "conv_kernel"), off=(0,)),
    "ssm.state_size": Meaning(fields=("linear_key_head_dim", "state_size"), off=(0,)),
    "ssm.time_step_rank": Meaning(fields=("linear_num_value_heads", "time_step_rank"), off=(0,)),
    "ssm.group_count": Meaning(fields=("linear_num_key_heads", "n_groups"), off=(0,)),
    "shortconv.l_cache": Meaning(fields=("conv_L_cache",), off=(0,)),
}

# Worked out together in `gguf_heads` and `gguf_structure`, because one follows from another.
GEOMETRY_KEYS = (
    "attention.head_count_kv",
    "attention.key_length",
    "attention.value_length",
    "attention.sliding_window",
    "attention.sliding_window_pattern",
    "attention.scale",
    "attention.recurrent_layers",
    "full_attention_interval",
    "expert_gating_func",
    "logit_scale",
    "ssm.inner_size",
)

# Without a counterpart in any class of transformers; only these values are those of a model that lacks the feature.
OFF: Mapping[str, tuple[Any, ...]] = {
    "attention.causal": (True,),
    "attention.max_alibi_bias": (0,),
    "attention.output_scale": (0, 1),
    "attention.value_scale": (0, 1),
    "attention.temperature_length": (0,),
    "attention.temperature_scale": (0,),
    "embedding_length_out": (0,),
    "expert_group_scale": (0, 1),
    "experts_per_group": (0,),
    "hyper_connection.count": (0,),
    "moe_every_n_layers": (0, 1),
    "interleave_moe_layer_step": (0, 1),
    "n_deepstack_layers": (0,),
    "nextn_predict_layers": (0,),
    "rescale_every_n_layers": (0,),
    "rope.scaling.alpha": (0,),
    "rope.scaling.yarn_log_multiplier": (0,),
    "ssm.dt_b_c_rms": (False,),
    "swin_norm": (False,),
    "swiglu_clamp_exp": (0,),
    "swiglu_clamp_shexp": (0,),
}

# They say how a file was made or what else a model may be used for; the answers are the same whatever they say.
HARMLESS: Mapping[str, str] = {
    "tensor_data_layout": "names the converter that wrote the tensors",
    "pooling_type": "only for embeddings of whole texts",
    "rope.scaling.finetuned": "says how the model was trained",
}

# Keys outside of an architecture, by their beginning. What is in none of these is no hyper-parameter.
ELSEWHERE: Mapping[str, str] = {
    "general.": "describes the file",
    "quantize.": "says how the file was quantized",
    "imatrix.": "says how the file was quantized",
    "split.": "says where the parts of the model are",
}
# Hyper-parameters without the architecture's name in front, of models that transformers does not read from GGUF.
FOREIGN = ("clip.", "diffusion.", "xielu.", "adapter.", "whisper.")

# llama.cpp loads no model without them.
NEEDED = ("context_length", "embedding_length", "block_count")
EPSILON_KEYS = ("attention.layer_norm_epsilon", "attention.layer_norm_rms_epsilon")
