"""Tiny models of many GGUF architectures, laid out as llama.cpp reads them.

Settings are never the defaults of any reader: a rotary base, an epsilon, a window or a scale that is not read shows in
the logits.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator

from jisu.benchmarks.studies.gguf_tensors import (
    EXPERTS,
    FE,
    GROUPS,
    HEADS,
    LAYER,
    LAYERS,
    POSITIONS,
    RMS,
    ROWS,
    USED,
    Architecture,
    C,
    D,
    F,
    Settings,
    Shapes,
    attention,
    both_ends,
    each_layer,
    experts,
    fused_attention,
    gated,
    head_norms,
    joined,
    model_sizes,
    norms,
    plain,
    shared_expert,
)


def architectures() -> dict[str, Architecture]:
    """Every architecture by its name in the table; those of one name in the file differ in what the file holds."""
    return {name: make() for name, make in _MAKERS.items()}


_ROPE: dict[str, Settings] = {
    "other rotary base": {"rope.freq_base": 500000.0},
    "no rotary base": {"rope.freq_base": None},
}
_LINEAR: Settings = {"rope.scaling.type": "linear", "rope.scaling.factor": 4.0}
_YARN: Settings = {
    "rope.scaling.type": "yarn",
    "rope.scaling.factor": 4.0,
    "rope.scaling.original_context_length": 128,
}


def _llama(name: str = "llama") -> Architecture:
    shapes = both_ends() | each_layer(LAYERS, lambda _: joined(norms("attn_norm", "ffn_norm"), attention(), gated()))
    return Architecture(
        name=name,
        settings=model_sizes(RMS),
        shapes=shapes,
        variants=_ROPE
        | {
            "linear scaling": _LINEAR,
            "yarn scaling": _YARN,
            "yarn scaling of one length": {"rope.scaling.type": "yarn", "rope.scaling.factor": 4.0},
            "old linear scale": {"rope.scale_linear": 4.0},
            "scaling without a type": {"rope.scaling.factor": 4.0},
            "frequency factors": {},
            "value size": {"attention.key_length": D, "attention.value_length": D},
            "epsilon left out": {RMS: None},
            "window": {"attention.sliding_window": 8},
            "as many groups as heads": {"attention.head_count_kv": None},
        },
        extra={"frequency factors": {"rope_freqs.weight": (D // 2,)}, "as many groups as heads": _all_groups()},
    )


def _all_groups() -> Shapes:
    return each_layer(LAYERS, lambda _: attention(groups=HEADS))


def _llama_experts() -> Architecture:
    shapes = both_ends() | each_layer(LAYERS, lambda _: joined(norms("attn_norm", "ffn_norm"), attention(), experts(F)))
    return Architecture(
        name="llama",
        settings=model_sizes(RMS, expert_count=EXPERTS, expert_used_count=USED),
        shapes=shapes,
        variants=_ROPE,
    )


def _llama_wide_heads() -> Architecture:
    shapes = both_ends(untied=False) | each_layer(
        LAYERS, lambda _: joined(norms("attn_norm", "ffn_norm"), attention(head=32), gated())
    )
    more = {"attention.key_length": 32, "attention.value_length": 32, "rope.dimension_count": 32}
    return Architecture(name="llama", settings=model_sizes(RMS) | more, shapes=shapes)


def _llama_biases() -> Architecture:
    shapes = both_ends() | each_layer(
        LAYERS, lambda _: joined(norms("attn_norm", "ffn_norm"), attention(bias=True, out_bias=True), gated())
    )
    return Architecture(name="llama", settings=model_sizes(RMS), shapes=shapes)


def _qwen2(*, untied: bool = False) -> Architecture:
    shapes = both_ends(untied=untied) | each_layer(
        LAYERS, lambda _: joined(norms("attn_norm", "ffn_norm"), attention(bias=True), gated())
    )
    return Architecture(
        name="qwen2", settings=model_sizes(RMS), shapes=shapes, variants=_ROPE | {"yarn scaling": _YARN}
    )


def _qwen2moe() -> Architecture:
    shapes = both_ends() | each_layer(
        LAYERS,
        lambda _: joined(norms("attn_norm", "ffn_norm"), attention(bias=True), experts(), shared_expert()),
    )
    settings = model_sizes(RMS, expert_count=EXPERTS, expert_used_count=USED)
    settings |= {"expert_feed_forward_length": FE, "expert_shared_feed_forward_length": F}
    return Architecture(
        name="qwen2moe",
        settings=settings,
        shapes=shapes,
        variants=_ROPE | {"three of four experts": {"expert_used_count": 3}},
    )


def _qwen3(head: int = D) -> Architecture:
    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        around = [("attn_q_norm.weight", (head,)), ("attn_k_norm.weight", (head,))]
        return joined(norms("attn_norm", "ffn_norm"), attention(head=head), iter(around), gated())

    more = {"attention.key_length": head, "attention.value_length": head, "rope.dimension_count": None}
    return Architecture(
        name="qwen3",
        settings=model_sizes(RMS) | more,
        shapes=both_ends(untied=False) | each_layer(LAYERS, layer),
        variants=_ROPE | {"yarn scaling": _YARN, "linear scaling": _LINEAR},
    )


def _qwen3moe() -> Architecture:
    shapes = both_ends() | each_layer(
        LAYERS,
        lambda _: joined(norms("attn_norm", "ffn_norm"), attention(), head_norms(), experts()),
    )
    settings = model_sizes(RMS, expert_count=EXPERTS, expert_used_count=USED, expert_feed_forward_length=FE)
    settings |= {"attention.key_length": D, "attention.value_length": D}
    return Architecture(
        name="qwen3moe",
        settings=settings,
        shapes=shapes,
        variants=_ROPE | {"three of four experts": {"expert_used_count": 3}},
    )


def _gemma2() -> Architecture:
    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        around = norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        return joined(around, attention(head=32), gated())

    settings = model_sizes(RMS) | {
        "attention.key_length": 32,
        "attention.value_length": 32,
        "rope.dimension_count": 32,
        "attn_logit_softcapping": 3.0,
        "final_logit_softcapping": 5.0,
        "attention.sliding_window": 24,
    }
    return Architecture(
        name="gemma2",
        settings=settings,
        shapes=both_ends(untied=False) | each_layer(LAYERS, layer),
        variants=_ROPE
        | {
            "caps left out": {"attn_logit_softcapping": None, "final_logit_softcapping": None},
            "window left out": {"attention.sliding_window": None},
        },
    )


def _gemma() -> Architecture:
    shapes = both_ends(untied=False) | each_layer(
        LAYERS, lambda _: joined(norms("attn_norm", "ffn_norm"), attention(head=32), gated())
    )
    more = {"attention.key_length": 32, "attention.value_length": 32, "rope.dimension_count": 32}
    return Architecture(name="gemma", settings=model_sizes(RMS) | more, shapes=shapes)


def _gemma3() -> Architecture:
    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        around = norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        heads = [("attn_q_norm.weight", (32,)), ("attn_k_norm.weight", (32,))]
        return joined(around, attention(head=32), iter(heads), gated())

    settings = model_sizes(RMS, layers=6) | {
        "attention.key_length": 32,
        "attention.value_length": 32,
        "rope.dimension_count": 32,
        "rope.freq_base": 250000.0,
        "attention.sliding_window": 24,
    }
    return Architecture(
        name="gemma3",
        settings=settings,
        shapes=both_ends(untied=False) | each_layer(6, layer),
        variants={
            "base of windows": {"rope.freq_base_swa": 5000.0},
            "linear scaling": _LINEAR,
            "window left out": {"attention.sliding_window": None},
            "final cap": {"final_logit_softcapping": 5.0},
            "pattern of three": {"attention.sliding_window_pattern": 3},
        },
    )


def _gemma4() -> Architecture:
    kinds = [True, True, False]

    def layer(index: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        head = D if kinds[index] else 32
        around = norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm", "post_norm")
        heads = [("attn_q_norm.weight", (head,)), ("attn_k_norm.weight", (head,)), ("layer_output_scale.weight", (1,))]
        inputs = [("inp_gate.weight", (8, C)), ("proj.weight", (C, 8))]
        return joined(around, attention(head=head), iter(heads), iter(inputs), gated())

    settings = model_sizes(RMS, layers=3) | {
        "attention.key_length": 32,
        "attention.value_length": 32,
        "attention.key_length_swa": D,
        "attention.value_length_swa": D,
        "rope.dimension_count": 32,
        "rope.dimension_count_swa": D,
        "rope.freq_base_swa": 5000.0,
        "attention.sliding_window": 24,
        "attention.sliding_window_pattern": kinds,
        "attention.shared_kv_layers": 0,
        "embedding_length_per_layer_input": 8,
        "final_logit_softcapping": 5.0,
    }
    shapes = both_ends(untied=False) | {
        "per_layer_token_embd.weight": (ROWS, 24),
        "per_layer_model_proj.weight": (24, C),
        "per_layer_proj_norm.weight": (8,),
        "rope_freqs.weight": (16,),
    }
    return Architecture(name="gemma4", settings=settings, shapes=shapes | each_layer(3, layer))


def _phi3() -> Architecture:
    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        feed = [("ffn_up.weight", (2 * F, C)), ("ffn_down.weight", (C, F))]
        return joined(norms("attn_norm", "ffn_norm"), fused_attention(groups=GROUPS), iter(feed))

    factors: Shapes = {"rope_factors_long.weight": (D // 2,), "rope_factors_short.weight": (D // 2,)}
    scaling = {"rope.scaling.attn_factor": 1.3, "rope.scaling.original_context_length": 128}
    return Architecture(
        name="phi3",
        settings=model_sizes(RMS),
        shapes=both_ends() | each_layer(LAYERS, layer),
        variants=_ROPE | {"partial rotary": {"rope.dimension_count": 8}, "long and short factors": scaling},
        extra={"long and short factors": factors},
    )


def _starcoder2() -> Architecture:
    shapes = both_ends(bias=True, untied=False) | each_layer(
        LAYERS,
        lambda _: joined(
            norms("attn_norm", "ffn_norm", bias=True), attention(bias=True, out_bias=True), plain(bias=True)
        ),
    )
    return Architecture(name="starcoder2", settings=model_sizes(LAYER), shapes=shapes, variants=_ROPE)


def _stablelm(*, bias: bool = False) -> Architecture:
    shapes = both_ends(bias=True) | each_layer(
        LAYERS, lambda _: joined(norms("attn_norm", "ffn_norm", bias=True), attention(bias=bias), gated())
    )
    return Architecture(
        name="stablelm",
        settings=model_sizes(LAYER) | {"rope.dimension_count": 4, "use_parallel_residual": False},
        shapes=shapes,
        variants=_ROPE | {"whole rotary": {"rope.dimension_count": D}, "half rotary": {"rope.dimension_count": 8}},
    )


def _stablelm_parallel() -> Architecture:
    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        heads = [("attn_q_norm.weight", (HEADS, D)), ("attn_k_norm.weight", (GROUPS, D))]
        return joined(norms("attn_norm", bias=True), attention(), iter(heads), gated())

    settings = model_sizes(LAYER) | {"rope.dimension_count": 4, "use_parallel_residual": True}
    return Architecture(name="stablelm", settings=settings, shapes=both_ends(bias=True) | each_layer(LAYERS, layer))


def _nemotron() -> Architecture:
    shapes = both_ends(bias=True) | each_layer(
        LAYERS, lambda _: joined(norms("attn_norm", "ffn_norm", bias=True), attention(), plain())
    )
    return Architecture(
        name="nemotron",
        settings=model_sizes(LAYER) | {"rope.dimension_count": 8},
        shapes=shapes,
        variants=_ROPE | {"whole rotary": {"rope.dimension_count": D}},
    )


def _falcon(*, groups: int = 1) -> Architecture:
    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        around = ("attn_norm",) if groups == 1 else ("attn_norm", "attn_norm_2")
        return joined(norms(*around, bias=True), fused_attention(groups=groups), plain())

    settings = model_sizes(LAYER) | {"attention.head_count_kv": groups, "rope.dimension_count": None}
    return Architecture(
        name="falcon",
        settings=settings | {"feed_forward_length": 4 * C},
        shapes={
            name: tuple(4 * C if size == F else size for size in shape)
            for name, shape in (both_ends(bias=True) | each_layer(LAYERS, layer)).items()
        },
        variants=_ROPE,
    )


def _gpt2() -> Architecture:
    shapes = both_ends(bias=True, untied=False) | each_layer(
        LAYERS,
        lambda _: joined(norms("attn_norm", "ffn_norm", bias=True), fused_attention(bias=True), plain(bias=True)),
    )
    return Architecture(
        name="gpt2",
        settings=model_sizes(LAYER, rope=False) | {"attention.head_count_kv": None},
        shapes=shapes | {"position_embd.weight": (POSITIONS, C)},
    )


def _bloom() -> Architecture:
    shapes = both_ends(bias=True, untied=False) | each_layer(
        LAYERS,
        lambda _: joined(norms("attn_norm", "ffn_norm", bias=True), fused_attention(bias=True), plain(bias=True)),
    )
    shapes = {name: tuple(4 * C if size == F else size for size in shape) for name, shape in shapes.items()}
    return Architecture(
        name="bloom",
        settings=model_sizes(LAYER, rope=False) | {"attention.head_count_kv": HEADS, "feed_forward_length": 4 * C},
        shapes=shapes | {"token_embd_norm.weight": (C,), "token_embd_norm.bias": (C,)},
    )


def _gpt_oss() -> Architecture:
    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        more = [
            ("attn_sinks.weight", (HEADS,)),
            ("ffn_gate_inp.bias", (EXPERTS,)),
            ("ffn_gate_exps.bias", (EXPERTS, FE)),
            ("ffn_up_exps.bias", (EXPERTS, FE)),
            ("ffn_down_exps.bias", (EXPERTS, C)),
        ]
        around = norms("attn_norm", "post_attention_norm")
        return joined(around, attention(bias=True, out_bias=True), experts(), iter(more))

    settings = model_sizes(RMS, expert_count=EXPERTS, expert_used_count=USED, expert_feed_forward_length=FE)
    settings |= {"attention.key_length": D, "attention.value_length": D, "attention.sliding_window": 24}
    return Architecture(
        name="gpt-oss",
        settings=settings | {"feed_forward_length": FE},
        shapes=both_ends() | each_layer(LAYERS, layer),
        variants={
            "other rotary base": _ROPE["other rotary base"],
            "other window": {"attention.sliding_window": 40},
            "yarn scaling": _YARN,
        },
        known={"yarn scaling": "llama.cpp rounds the range of interpolated dimensions, gpt-oss does not"},
    )


def _lfm2() -> Architecture:
    kinds = [0, GROUPS]

    def layer(index: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        conv = [("shortconv.conv.weight", (C, 3)), ("shortconv.in_proj.weight", (3 * C, C))]
        conv += [("shortconv.out_proj.weight", (C, C))]
        mixer = joined(attention(), head_norms()) if kinds[index] else iter(conv)
        return joined(norms("attn_norm", "ffn_norm"), mixer, gated())

    settings = model_sizes(RMS) | {"attention.head_count_kv": kinds, "shortconv.l_cache": 3, "vocab_size": ROWS}
    shapes = {"token_embd.weight": (ROWS, C), "token_embd_norm.weight": (C,)} | each_layer(LAYERS, layer)
    return Architecture(name="lfm2", settings=settings, shapes=shapes, variants=_ROPE)


def _mamba() -> Architecture:
    inner, state, rank = 2 * C, 8, 4

    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from norms("attn_norm")
        yield "ssm_in.weight", (2 * inner, C)
        yield "ssm_conv1d.weight", (inner, 4)
        yield "ssm_conv1d.bias", (inner,)
        yield "ssm_x.weight", (rank + 2 * state, inner)
        yield "ssm_dt.weight", (inner, rank)
        yield "ssm_dt.bias", (inner,)
        yield "ssm_a", (inner, state)
        yield "ssm_d", (inner,)
        yield "ssm_out.weight", (C, inner)

    settings = {
        "context_length": POSITIONS,
        "embedding_length": C,
        "feed_forward_length": 0,
        "attention.head_count": 0,
        "block_count": LAYERS,
        RMS: 2e-3,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": inner,
        "ssm.state_size": state,
        "ssm.time_step_rank": rank,
    }
    return Architecture(
        name="mamba",
        settings=settings,
        shapes=both_ends(untied=False) | each_layer(LAYERS, layer),
        variants={"normalized steps": {"ssm.dt_b_c_rms": True}},
    )


def _minimax_m2() -> Architecture:
    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        heads = [("attn_q_norm.weight", (HEADS * D,)), ("attn_k_norm.weight", (GROUPS * D,))]
        bias = [("exp_probs_b.bias", (EXPERTS,))]
        return joined(norms("attn_norm", "ffn_norm"), attention(), iter(heads), experts(F), iter(bias))

    settings = model_sizes(RMS, expert_count=EXPERTS, expert_used_count=USED, expert_feed_forward_length=F)
    settings |= {"attention.key_length": D, "attention.value_length": D, "rope.dimension_count": 8}
    return Architecture(
        name="minimax-m2",
        settings=settings | {"expert_gating_func": 2},
        shapes=both_ends() | each_layer(LAYERS, layer),
        variants=_ROPE | {"whole rotary": {"rope.dimension_count": D}},
    )


def _qwen35(*, routed: bool = False) -> Architecture:
    keys, values, size = 2, 4, 16

    def layer(index: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        yield from norms("attn_norm", "post_attention_norm")
        if index == 1:
            yield "attn_q.weight", (2 * HEADS * D, C)
            yield "attn_k.weight", (GROUPS * D, C)
            yield "attn_v.weight", (GROUPS * D, C)
            yield "attn_output.weight", (C, HEADS * D)
            yield from head_norms()
        else:
            width = 2 * keys * size + values * size
            yield "attn_qkv.weight", (width, C)
            yield "attn_gate.weight", (values * size, C)
            yield "ssm_conv1d.weight", (width, 4)
            yield "ssm_dt.bias", (values,)
            yield "ssm_a", (values,)
            yield "ssm_beta.weight", (values, C)
            yield "ssm_alpha.weight", (values, C)
            yield "ssm_norm.weight", (size,)
            yield "ssm_out.weight", (C, values * size)
        yield from joined(experts(), shared_expert()) if routed else gated()

    settings = model_sizes(RMS) | {
        RMS: 1e-6,
        "attention.key_length": D,
        "attention.value_length": D,
        "rope.dimension_count": 8,
        "rope.dimension_sections": [2, 1, 1, 0],
        "full_attention_interval": 2,
        "ssm.conv_kernel": 4,
        "ssm.inner_size": values * size,
        "ssm.state_size": size,
        "ssm.time_step_rank": values,
        "ssm.group_count": keys,
    }
    if routed:
        settings |= {"expert_count": EXPERTS, "expert_used_count": USED, "expert_feed_forward_length": FE}
        settings |= {"expert_shared_feed_forward_length": F, "feed_forward_length": None}
    return Architecture(
        name="qwen35moe" if routed else "qwen35",
        settings=settings,
        shapes=both_ends() | each_layer(LAYERS, layer),
        variants={"other rotary base": _ROPE["other rotary base"], "other epsilon": {RMS: 2e-3}},
        known={"other epsilon": "llama.cpp takes the epsilon of norms for the lengths of queries and keys as well"},
    )


def _deci() -> Architecture:
    made = _llama("deci")
    return Architecture(name="deci", settings=made.settings, shapes=made.shapes)


def _phi2() -> Architecture:
    shapes = both_ends(bias=True) | each_layer(
        LAYERS,
        lambda _: joined(norms("attn_norm", bias=True), attention(bias=True, out_bias=True), plain(bias=True)),
    )
    settings = model_sizes(LAYER) | {"rope.dimension_count": 8}
    return Architecture(name="phi2", settings=settings, shapes=shapes | {"output.bias": (ROWS,)})


def _gptneox() -> Architecture:
    shapes = both_ends(bias=True) | each_layer(
        LAYERS,
        lambda _: joined(norms("attn_norm", "ffn_norm", bias=True), fused_attention(bias=True), plain(bias=True)),
    )
    settings = model_sizes(LAYER) | {
        "attention.head_count_kv": None,
        "use_parallel_residual": True,
        "rope.dimension_count": 4,
    }
    return Architecture(name="gptneox", settings=settings, shapes=shapes)


def _olmo2() -> Architecture:
    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        heads = [("attn_q_norm.weight", (C,)), ("attn_k_norm.weight", (GROUPS * D,))]
        return joined(norms("post_attention_norm", "post_ffw_norm"), attention(), iter(heads), gated())

    return Architecture(name="olmo2", settings=model_sizes(RMS), shapes=both_ends() | each_layer(LAYERS, layer))


def _olmoe() -> Architecture:
    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        heads = [("attn_q_norm.weight", (C,)), ("attn_k_norm.weight", (C,))]
        return joined(norms("attn_norm", "ffn_norm"), attention(groups=HEADS), iter(heads), experts(F))

    settings = model_sizes(RMS, expert_count=EXPERTS, expert_used_count=USED) | {"attention.head_count_kv": HEADS}
    return Architecture(name="olmoe", settings=settings, shapes=both_ends() | each_layer(LAYERS, layer))


def _command_r() -> Architecture:
    shapes = both_ends(untied=False) | each_layer(LAYERS, lambda _: joined(norms("attn_norm"), attention(), gated()))
    return Architecture(name="command-r", settings=model_sizes(LAYER) | {"logit_scale": 0.25}, shapes=shapes)


def _granite() -> Architecture:
    made = _llama()
    scales = {"logit_scale": 4.0, "residual_scale": 0.3, "embedding_scale": 6.0, "attention.scale": 0.1}
    return Architecture(name="granite", settings=made.settings | scales, shapes=made.shapes)


def _arcee() -> Architecture:
    shapes = both_ends() | each_layer(LAYERS, lambda _: joined(norms("attn_norm", "ffn_norm"), attention(), plain()))
    return Architecture(name="arcee", settings=model_sizes(RMS), shapes=shapes)


def _cohere2() -> Architecture:
    shapes = both_ends(untied=False) | each_layer(4, lambda _: joined(norms("attn_norm"), attention(), gated()))
    settings = model_sizes(LAYER, layers=4) | {"logit_scale": 0.25, "attention.sliding_window": 24}
    pattern = {"attention.sliding_window_pattern": [True, False, True, False]}
    return Architecture(name="cohere2", settings=settings, shapes=shapes, variants={"pattern": pattern})


def _exaone4() -> Architecture:
    shapes = both_ends() | each_layer(
        4, lambda _: joined(norms("post_attention_norm", "post_ffw_norm"), attention(), head_norms(), gated())
    )
    pattern = {"attention.sliding_window_pattern": [True, False, True, False]}
    return Architecture(
        name="exaone4",
        settings=model_sizes(RMS, layers=4),
        shapes=shapes,
        variants=_ROPE | {"window": {"attention.sliding_window": 24} | pattern},
        known={"window": "llama.cpp has windows in the model of 64 layers only"},
    )


def _glm4(*, bias: bool = False) -> Architecture:
    def layer(_: int) -> Iterator[tuple[str, tuple[int, ...]]]:
        feed = [("ffn_up.weight", (2 * F, C)), ("ffn_down.weight", (C, F))]
        around = norms("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm")
        return joined(around, attention(bias=bias), iter(feed))

    settings = model_sizes(RMS) | {"rope.dimension_count": 8}
    return Architecture(
        name="glm4",
        settings=settings,
        shapes=both_ends() | each_layer(LAYERS, layer),
        variants={"whole rotary": {"rope.dimension_count": D}, "no rotary base": _ROPE["no rotary base"]},
    )


def _granite_experts() -> Architecture:
    made = _llama_experts()
    scales = {"logit_scale": 4.0, "residual_scale": 0.3, "embedding_scale": 6.0, "attention.scale": 0.1}
    return Architecture(name="granitemoe", settings=made.settings | scales, shapes=made.shapes)


def _hunyuan() -> Architecture:
    shapes = both_ends() | each_layer(
        LAYERS, lambda _: joined(norms("attn_norm", "ffn_norm"), attention(), head_norms(), gated())
    )
    more = {"attention.key_length": D, "attention.value_length": D}
    return Architecture(name="hunyuan-dense", settings=model_sizes(RMS) | more, shapes=shapes)


def _olmo() -> Architecture:
    shapes = both_ends() | each_layer(LAYERS, lambda _: joined(attention(), gated()))
    del shapes["output_norm.weight"]
    return Architecture(
        name="olmo",
        settings=model_sizes(LAYER) | {LAYER: 1e-5},
        shapes=shapes,
        variants={"clamp": {"attention.clamp_kqv": 0.5}, "other epsilon": {LAYER: 2e-3}},
    )


def _seed_oss() -> Architecture:
    shapes = both_ends() | each_layer(
        LAYERS, lambda _: joined(norms("attn_norm", "post_attention_norm"), attention(bias=True), gated())
    )
    more = {"attention.key_length": D, "attention.value_length": D}
    return Architecture(name="seed_oss", settings=model_sizes(RMS) | more, shapes=shapes)


def _starcoder() -> Architecture:
    shapes = both_ends(bias=True, untied=False) | each_layer(
        LAYERS,
        lambda _: joined(
            norms("attn_norm", "ffn_norm", bias=True), fused_attention(bias=True, groups=1), plain(bias=True)
        ),
    )
    return Architecture(
        name="starcoder",
        settings=model_sizes(LAYER, rope=False) | {"attention.head_count_kv": 1},
        shapes=shapes | {"position_embd.weight": (POSITIONS, C)},
    )


def _renamed(name: str) -> Callable[[], Architecture]:
    """An architecture with the tensors of Llama."""

    def make() -> Architecture:
        made = _llama()
        return Architecture(name=name, settings=made.settings, shapes=made.shapes)

    return make


_MAKERS: dict[str, Callable[[], Architecture]] = {
    "llama": _llama,
    "llama (experts)": _llama_experts,
    "llama (wide heads)": _llama_wide_heads,
    "llama (biases)": _llama_biases,
    "deci": _deci,
    "qwen2": _qwen2,
    "qwen2 (untied)": lambda: _qwen2(untied=True),
    "qwen2moe": _qwen2moe,
    "qwen3": _qwen3,
    "qwen3 (wide heads)": lambda: _qwen3(32),
    "qwen3moe": _qwen3moe,
    "qwen35": _qwen35,
    "qwen35moe": lambda: _qwen35(routed=True),
    "gemma": _gemma,
    "gemma2": _gemma2,
    "gemma3": _gemma3,
    "gemma4": _gemma4,
    "phi3": _phi3,
    "starcoder2": _starcoder2,
    "stablelm": _stablelm,
    "stablelm (biases)": lambda: _stablelm(bias=True),
    "stablelm (parallel)": _stablelm_parallel,
    "nemotron": _nemotron,
    "falcon": _falcon,
    "falcon (groups)": lambda: _falcon(groups=GROUPS),
    "gpt2": _gpt2,
    "bloom": _bloom,
    "gpt-oss": _gpt_oss,
    "lfm2": _lfm2,
    "mamba": _mamba,
    "minimax-m2": _minimax_m2,
    "phi2": _phi2,
    "gptneox": _gptneox,
    "olmo2": _olmo2,
    "olmoe": _olmoe,
    "command-r": _command_r,
    "granite": _granite,
    "smollm3": _renamed("smollm3"),
    "exaone": _renamed("exaone"),
    "internlm2": _renamed("internlm2"),
    "baichuan": _renamed("baichuan"),
    "arcee": _arcee,
    "cohere2": _cohere2,
    "ernie4_5": _renamed("ernie4_5"),
    "exaone4": _exaone4,
    "glm4": _glm4,
    "glm4 (biases)": lambda: _glm4(bias=True),
    "granitemoe": _granite_experts,
    "hunyuan-dense": _hunyuan,
    "olmo": _olmo,
    "seed_oss": _seed_oss,
    "starcoder": _starcoder,
}
