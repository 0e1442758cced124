"""Rounds a checkpoint with AutoRound, in an environment that has `auto-round`, and keeps the weights that came out.

    python benchmarks/peers/auto_round_weights.py FOLDER --windows IDS.npy --out WEIGHTS.safetensors \\
        [--iterations 200] [--eight k_proj v_proj down_proj]

Knows nothing of jisu, whose environment is another one: FOLDER is a Hugging Face folder in float32, IDS.npy the
calibration windows, int64 [windows, T], both written by `benchmarks.studies.weight_formats --for-others`. What is kept
are the rounded linear layers of the decoder as products of codes and scales; `weight_formats --weights` measures them.
"""

from __future__ import annotations

import argparse
import time
from pathlib import Path
from typing import Any

import numpy as np


def stored_bytes(name: str, elements: int, options: argparse.Namespace) -> float:
    """Codes, a scale of two bytes for each group, and of 4 bits a zero point of as many."""
    few = name.removesuffix(".weight").rpartition(".")[2] not in options.eight
    groups = elements / int(options.group_size)
    return elements * (4 if few else 8) / 8 + groups * (2 + (0.5 if few else 0))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder")
    parser.add_argument("--windows", type=Path, required=True, help="token ids to calibrate on, int64 [windows, T]")
    parser.add_argument("--out", type=Path, required=True, help="safetensors file of the rounded layers")
    parser.add_argument("--iterations", type=int, default=200, help="steps of each layer (default: %(default)s)")
    parser.add_argument("--group-size", type=int, default=32, help="weights that share a scale (default: %(default)s)")
    parser.add_argument("--eight", nargs="*", default=[], help="last names of layers that get 8 bits")
    parser.add_argument("--batch", type=int, default=8, help="windows of a step (default: %(default)s)")
    options = parser.parse_args()
    import torch
    from auto_round import AutoRound  # type: ignore[import-not-found]
    from safetensors.torch import save_file
    from transformers import AutoModelForCausalLM, AutoTokenizer

    ids = torch.from_numpy(np.load(options.windows))
    model: Any = AutoModelForCausalLM.from_pretrained(options.folder, dtype=torch.float32)
    layers = [
        name
        for name, module in model.named_modules()
        if isinstance(module, torch.nn.Linear) and module is not model.get_output_embeddings()
    ]
    eight = {"bits": 8, "group_size": options.group_size, "sym": True}
    rounding = AutoRound(
        model,
        tokenizer=AutoTokenizer.from_pretrained(options.folder),
        bits=4,
        group_size=options.group_size,
        sym=False,
        iters=options.iterations,
        nsamples=len(ids),
        seqlen=ids.shape[1],
        batch_size=options.batch,
        dataset=[{"input_ids": row[None], "attention_mask": torch.ones_like(row)[None]} for row in ids],
        layer_config={name: eight for name in layers if name.rpartition(".")[2] in options.eight},
        device_map="cpu",
        enable_torch_compile=False,
    )
    started = time.perf_counter()
    rounded, _ = rounding.quantize()
    weights = {f"{name}.weight": rounded.get_submodule(name).weight.detach().float().contiguous() for name in layers}
    stored = sum(stored_bytes(name, weight.numel(), options) for name, weight in weights.items())
    facts = {"seconds": f"{time.perf_counter() - started:.0f}", "iterations": str(options.iterations)}
    facts["bytes"] = str(round(stored))
    save_file(weights, options.out, metadata=facts)


if __name__ == "__main__":
    main()
