"""Small mixtures of experts, as checkpoints and in memory."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tests.support.models import BOS, EOS, PAD, TINY_VOCAB, random_model, write_tiny

EXPERTS = 4


def mixture_config(**changes: Any) -> Any:
    """Of a Mixtral with two layers of four experts, two of them for each token."""
    from transformers import MixtralConfig

    settings: dict[str, Any] = {
        "vocab_size": TINY_VOCAB,
        "hidden_size": 64,
        "intermediate_size": 96,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "num_local_experts": EXPERTS,
        "num_experts_per_tok": 2,
        "max_position_embeddings": 512,
        "bos_token_id": BOS,
        "eos_token_id": EOS,
        "pad_token_id": PAD,
    }
    return MixtralConfig(**settings | changes)


def small_mixture(**changes: Any) -> Any:
    return random_model(mixture_config(**changes))


def small_transposed_mixture() -> Any:
    """gpt-oss keeps its experts as [in, out], with biases."""
    from transformers import GptOssConfig

    return random_model(
        GptOssConfig(
            vocab_size=TINY_VOCAB,
            hidden_size=64,
            intermediate_size=96,
            num_hidden_layers=2,
            num_attention_heads=4,
            num_key_value_heads=2,
            head_dim=16,
            num_local_experts=EXPERTS,
            num_experts_per_tok=2,
            max_position_embeddings=512,
            bos_token_id=BOS,
            eos_token_id=EOS,
            pad_token_id=PAD,
        )
    )


def write_shared_mixture(folder: Path) -> Path:
    """Of a Qwen2-MoE with one layer: beside its experts is one that sees every token, a row of two axes at a time."""
    from transformers import Qwen2MoeConfig

    config = Qwen2MoeConfig(
        vocab_size=TINY_VOCAB,
        hidden_size=64,
        intermediate_size=96,
        moe_intermediate_size=32,
        shared_expert_intermediate_size=96,
        num_hidden_layers=1,
        num_attention_heads=4,
        num_key_value_heads=2,
        num_experts=EXPERTS,
        num_experts_per_tok=2,
        max_position_embeddings=512,
        bos_token_id=BOS,
        eos_token_id=EOS,
        pad_token_id=PAD,
    )
    return write_tiny(folder, config)


def write_mixture(folder: Path, **changes: Any) -> Path:
    return write_tiny(folder, mixture_config(**changes))


def never_routed(model: Any) -> None:
    """Let no token reach the last of the five experts of the first layer.

    The scores of the others are s, -s, 2s and -2s, of which two are above its zero whatever the token.
    """
    import torch

    router = model.model.layers[0].mlp.gate
    assert len(router.weight) == 5
    with torch.no_grad():
        for row, factor in enumerate((1, -1, 2, -2, 0)):
            router.weight[row] = factor * router.weight[0]
