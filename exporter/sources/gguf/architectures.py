"""Which transformers model a GGUF architecture is, and how llama.cpp's converter lays out its queries and keys.

Every entry was checked: a random model of the family, converted by llama.cpp's converter, gives the same logits when it
is read back. A name that is not listed is refused.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.gguf.header import GgufHeader

# llama.cpp's name for the architecture, and the model type of transformers.
MODEL_TYPES: Mapping[str, str] = {
    "arcee": "arcee",
    "bloom": "bloom",
    "cohere2": "cohere2",
    "command-r": "cohere",
    "ernie4_5": "ernie4_5",
    "exaone4": "exaone4",
    "falcon": "falcon",
    "gemma": "gemma",
    "gemma2": "gemma2",
    "gemma3": "gemma3_text",
    "gemma4": "gemma4_text",
    "glm4": "glm4",
    "gpt-oss": "gpt_oss",
    "gpt2": "gpt2",
    "gptneox": "gpt_neox",
    "granite": "granite",
    "granitemoe": "granitemoe",
    "hunyuan-dense": "hunyuan_v1_dense",
    "lfm2": "lfm2",
    "llama": "llama",
    "mamba": "mamba",
    "minimax-m2": "minimax_m2",
    "nemotron": "nemotron",
    "olmo": "olmo",
    "olmo2": "olmo2",
    "olmoe": "olmoe",
    "phi2": "phi",
    "phi3": "phi3",
    "qwen2": "qwen2",
    "qwen2moe": "qwen2_moe",
    "qwen3": "qwen3",
    "qwen35": "qwen3_5_text",
    "qwen35moe": "qwen3_5_moe_text",
    "qwen3moe": "qwen3_moe",
    "seed_oss": "seed_oss",
    "smollm3": "smollm3",
    "stablelm": "stablelm",
    "starcoder": "gpt_bigcode",
    "starcoder2": "starcoder2",
}

GEMMA4 = "gemma4_text"

# llama.cpp turns neighbouring values where transformers turns the two halves of a head: the rows are interleaved.
INTERLEAVED = frozenset({"arcee", "granite", "granitemoe", "llama", "olmo", "smollm3"})
# Their norms multiply by one plus the weight.
OFFSET_NORMS = frozenset({"gemma", "gemma2", "gemma3", "nemotron"})


def config_class(header: GgufHeader) -> Any:
    """The configuration class of transformers that describes models of a file's architecture.

    Raises:
        InputError: there is none.
    """
    from transformers import CONFIG_MAPPING

    name = header.architecture
    model_type = MODEL_TYPES.get(name)
    if name == "llama" and header.fields.get("llama.expert_count"):
        model_type = "mixtral"
    if model_type is None or model_type not in CONFIG_MAPPING:
        raise InputError(
            f"No configuration can be made from the metadata of {header.path}",
            received=f"architecture {name!r}",
            allowed=", ".join(MODEL_TYPES),
            fix="Use the model's original Hugging Face folder instead.",
        )
    return CONFIG_MAPPING[model_type]
