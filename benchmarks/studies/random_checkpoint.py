"""Writes a checkpoint of a real model's shape with random weights, to see what its size costs.

    python -m benchmarks.studies.random_checkpoint FOLDER --shape llama-8b --tokenizer MODEL.gguf

Weights are drawn tensor by tensor, seeded, in bfloat16, and written in shards, so that the largest tensor is all that
is in memory. Such a model knows no text: figures of quality say nothing of a real one.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

_SHARD_BYTES = 4_000_000_000
# Of matrices, over the square root of their inputs: hidden states keep their size from layer to layer.
_GAIN = 0.7


def shapes() -> dict[str, Any]:
    """Configurations by name."""
    from transformers import LlamaConfig, Qwen3MoeConfig

    return {
        "llama-8b": LlamaConfig(
            vocab_size=128256,
            hidden_size=4096,
            intermediate_size=14336,
            num_hidden_layers=32,
            num_attention_heads=32,
            num_key_value_heads=8,
            max_position_embeddings=8192,
            tie_word_embeddings=False,
            bos_token_id=1,
            eos_token_id=2,
        ),
        "llama-1b": LlamaConfig(
            vocab_size=128256,
            hidden_size=2048,
            intermediate_size=8192,
            num_hidden_layers=16,
            num_attention_heads=32,
            num_key_value_heads=8,
            head_dim=64,
            max_position_embeddings=8192,
            tie_word_embeddings=True,
            bos_token_id=1,
            eos_token_id=2,
        ),
        "qwen3-moe-4b": Qwen3MoeConfig(
            vocab_size=151936,
            hidden_size=1024,
            intermediate_size=3072,
            moe_intermediate_size=384,
            num_hidden_layers=24,
            num_attention_heads=16,
            num_key_value_heads=4,
            num_experts=128,
            num_experts_per_tok=8,
            max_position_embeddings=8192,
            bos_token_id=1,
            eos_token_id=2,
        ),
    }


def write_checkpoint(folder: Path, config: Any, *, seed: int = 0, shard_bytes: int = _SHARD_BYTES) -> None:
    """Write config.json and weights; the folder is made, and must not hold a model yet."""
    import torch
    from safetensors.torch import save_file

    folder.mkdir(parents=True)
    model = _empty(config)
    config.architectures = [type(model).__name__]
    config.dtype = "bfloat16"
    config.save_pretrained(folder)
    generator = torch.Generator().manual_seed(seed)
    index: dict[str, str] = {}
    shard: dict[str, torch.Tensor] = {}
    count = 1
    for name, tensor in _drawn(model, generator):
        if shard and sum(one.nbytes for one in shard.values()) + tensor.nbytes > shard_bytes:
            save_file(shard, folder / f"model-{count:05d}.safetensors", metadata={"format": "pt"})
            shard, count = {}, count + 1
        shard[name] = tensor
        index[name] = f"model-{count:05d}.safetensors"
    save_file(shard, folder / f"model-{count:05d}.safetensors", metadata={"format": "pt"})
    text = json.dumps({"metadata": {}, "weight_map": index}, indent=2)
    (folder / "model.safetensors.index.json").write_text(text, encoding="utf-8")


def _empty(config: Any) -> Any:
    import torch
    from transformers import AutoModelForCausalLM

    with torch.device("meta"):
        return AutoModelForCausalLM.from_config(config)  # type: ignore[no-untyped-call]


def _drawn(model: Any, generator: torch.Generator) -> Iterator[tuple[str, torch.Tensor]]:
    """Every parameter once, as its checkpoint holds it; experts that are one parameter here are many there."""
    import torch

    for name, parameter in model.named_parameters():
        shape = tuple(parameter.shape)
        if len(shape) == 1:
            yield name, torch.ones(shape, dtype=torch.bfloat16)
        elif len(shape) == 2:
            yield name, _matrix(shape, generator, scale=1.0 if "embed" in name else _GAIN / shape[1] ** 0.5)
        else:
            stem = name.rpartition(".")[0]
            for number in range(shape[0]):
                if name.endswith("gate_up_proj"):
                    half = (shape[1] // 2, shape[2])
                    for part in ("gate_proj", "up_proj"):
                        matrix = _matrix(half, generator, scale=_GAIN / half[1] ** 0.5)
                        yield f"{stem}.{number}.{part}.weight", matrix
                else:
                    matrix = _matrix(shape[1:], generator, scale=_GAIN / shape[2] ** 0.5)
                    yield f"{stem}.{number}.{name.rpartition('.')[2]}.weight", matrix


def _matrix(shape: tuple[int, ...], generator: torch.Generator, *, scale: float) -> torch.Tensor:
    import torch

    return torch.empty(shape, dtype=torch.float32).normal_(0, scale, generator=generator).to(torch.bfloat16)


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--shape", choices=sorted(shapes()), required=True)
    parser.add_argument("--tokenizer", type=Path, help="a checkpoint whose tokenizer is written beside the weights")
    options = parser.parse_args(arguments)
    write_checkpoint(options.folder, shapes()[options.shape])
    if options.tokenizer is not None:
        from jisu.exporter.sources import load_source

        tokenizer = load_source(options.tokenizer, outline=True).tokenizer
        assert tokenizer is not None, f"{options.tokenizer} has no tokenizer"
        tokenizer.save_pretrained(str(options.folder))
    return 0


if __name__ == "__main__":
    sys.exit(main())
