"""Folders whose weights are codes, made of plain ones, and the weights that the codes stand for."""

from __future__ import annotations

import json
import shutil

import numpy as np
import torch
from safetensors.torch import load_file, save_file


def pack(codes, bits):
    """Codes [..., count] in 32-bit words, the first in the lowest bits, without gaps."""
    flat = codes.reshape(-1, codes.shape[-1])
    words = []
    for row in flat:
        number = sum(int(code) << (bits * place) for place, code in enumerate(row))
        words.append([(number >> (32 * word)) & 0xFFFFFFFF for word in range(len(row) * bits // 32)])
    return torch.from_numpy(np.array(words, np.uint32).view(np.int32))


def rewrite(plain, folder, change, *, settings=None, only=("proj.weight",), **files):
    """A copy of the plain folder with each matrix exchanged: (the folder, the weights that it stands for)."""
    shutil.copytree(plain, folder)
    stored, expected = {}, {}
    for name, weight in load_file(plain / "model.safetensors").items():
        if name.endswith(only):
            parts, expected[name] = change(name.removesuffix(".weight"), weight)
            stored |= parts
        else:
            stored[name] = expected[name] = weight
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    if settings is not None:
        config["quantization_config"] = settings
    (folder / "config.json").write_text(json.dumps(config))
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return folder, expected


def float8(stem, weight):
    scale = weight.abs().max() / 448
    codes = (weight / scale).to(torch.float8_e4m3fn)
    parts = {f"{stem}.weight": codes, f"{stem}.weight_scale": scale.reshape(1), f"{stem}.input_scale": torch.ones(1)}
    return parts, codes.float() * scale


def gptq(stem, weight):
    rows, columns = weight.shape
    scales = (weight.abs().reshape(rows, -1, 32).amax(-1) / 7).half()
    wide = scales.float().repeat_interleave(32, 1)
    codes = (weight / wide).round().clamp(-8, 7) + 8
    parts = {
        f"{stem}.qweight": pack(codes.int().numpy(), 4).T.contiguous(),
        f"{stem}.qzeros": pack(np.full((columns // 32, rows), 7), 4),
        f"{stem}.scales": scales.T.contiguous(),
        f"{stem}.bias": torch.zeros(rows, dtype=torch.float16),
    }
    return parts, (codes - 8) * wide


GPTQ = {"quant_method": "gptq", "bits": 4, "group_size": 32, "sym": True, "desc_act": False}
