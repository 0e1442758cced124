"""Sizes and tensors that tiny GGUF models of many architectures share, by llama.cpp's names.

Shapes are as numpy has them: outputs before inputs.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

C, HEADS, GROUPS, D, F, LAYERS, ROWS, POSITIONS = 64, 4, 2, 16, 112, 2, 384, 512
EXPERTS, USED, FE = 4, 2, 32
BASE = 25000.0
RMS, LAYER = "attention.layer_norm_rms_epsilon", "attention.layer_norm_epsilon"
Shapes = dict[str, tuple[int, ...]]
Settings = dict[str, Any]


@dataclass(frozen=True, kw_only=True)
class Architecture:
    """One architecture.

    Attributes:
        name: as ``general.architecture`` has it.
        settings: by their keys without the architecture's name.
        shapes: of all tensors.
        variants: other settings by a name for them; None leaves a key out.
        extra: further tensors of a variant, or other shapes.
        known: why a variant is bound to differ from llama.cpp, where the model's authors say otherwise.
    """

    name: str
    settings: Settings
    shapes: Shapes
    variants: dict[str, Settings] = field(default_factory=dict)
    extra: dict[str, Shapes] = field(default_factory=dict)
    known: dict[str, str] = field(default_factory=dict)


def model_sizes(epsilon: str, *, layers: int = LAYERS, rope: bool = True, **more: Any) -> Settings:
    settings: Settings = {
        "context_length": POSITIONS,
        "embedding_length": C,
        "block_count": layers,
        "feed_forward_length": F,
        "attention.head_count": HEADS,
        "attention.head_count_kv": GROUPS,
        epsilon: 2e-3,
    }
    if rope:
        settings |= {"rope.freq_base": BASE, "rope.dimension_count": D}
    return settings | {key.replace("__", "."): value for key, value in more.items()}


def both_ends(*, bias: bool = False, untied: bool = True) -> Shapes:
    shapes: Shapes = {"token_embd.weight": (ROWS, C), "output_norm.weight": (C,)}
    shapes |= {"output_norm.bias": (C,)} if bias else {}
    return shapes | ({"output.weight": (ROWS, C)} if untied else {})


def each_layer(layers: int, make: Callable[[int], Iterator[tuple[str, tuple[int, ...]]]]) -> Shapes:
    return {f"blk.{layer}.{name}": shape for layer in range(layers) for name, shape in make(layer)}


def norms(*names: str, bias: bool = False) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name in names:
        yield f"{name}.weight", (C,)
        if bias:
            yield f"{name}.bias", (C,)


def attention(
    *, bias: bool = False, out_bias: bool = False, head: int = D, groups: int = GROUPS
) -> Iterator[tuple[str, tuple[int, ...]]]:
    for name, heads in (("q", HEADS), ("k", groups), ("v", groups)):
        yield f"attn_{name}.weight", (heads * head, C)
        if bias:
            yield f"attn_{name}.bias", (heads * head,)
    yield "attn_output.weight", (C, HEADS * head)
    if out_bias:
        yield "attn_output.bias", (C,)


def fused_attention(*, bias: bool = False, groups: int = HEADS) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "attn_qkv.weight", ((HEADS + 2 * groups) * D, C)
    yield "attn_output.weight", (C, HEADS * D)
    if bias:
        yield "attn_qkv.bias", ((HEADS + 2 * groups) * D,)
        yield "attn_output.bias", (C,)


def head_norms() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "attn_q_norm.weight", (D,)
    yield "attn_k_norm.weight", (D,)


def gated(width: int = F) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "ffn_gate.weight", (width, C)
    yield "ffn_up.weight", (width, C)
    yield "ffn_down.weight", (C, width)


def plain(*, bias: bool = False) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "ffn_up.weight", (F, C)
    yield "ffn_down.weight", (C, F)
    if bias:
        yield "ffn_up.bias", (F,)
        yield "ffn_down.bias", (C,)


def experts(width: int = FE, *, router: bool = True) -> Iterator[tuple[str, tuple[int, ...]]]:
    if router:
        yield "ffn_gate_inp.weight", (EXPERTS, C)
    yield "ffn_gate_exps.weight", (EXPERTS, width, C)
    yield "ffn_up_exps.weight", (EXPERTS, width, C)
    yield "ffn_down_exps.weight", (EXPERTS, C, width)


def shared_expert() -> Iterator[tuple[str, tuple[int, ...]]]:
    yield "ffn_gate_inp_shexp.weight", (C,)
    yield "ffn_gate_shexp.weight", (F, C)
    yield "ffn_up_shexp.weight", (F, C)
    yield "ffn_down_shexp.weight", (C, F)


def joined(*parts: Iterator[tuple[str, tuple[int, ...]]]) -> Iterator[tuple[str, tuple[int, ...]]]:
    for part in parts:
        yield from part
