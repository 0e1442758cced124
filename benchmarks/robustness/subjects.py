"""Tiny inputs of every kind of file: checkpoints, adapters, artifacts, statistics, reports. Made once, in a folder."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

_TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{{ message['content'] }}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
_SETTINGS = {"repetition_penalty": 1.1, "temperature": 0.7, "top_p": 0.9, "do_sample": True, "suppress_tokens": [7]}
# The artifacts, and the precision of each.
_PRECISIONS = {
    **dict.fromkeys(("llama", "bert", "marian", "embedding", "speech", "image"), "fp32"),
    "int8": "int8",
    "w8a8": "w8a8",
}
_LOOSE: dict[str, Any] = {"max_kl": 5.0, "min_top1": 0.0, "max_perplexity_ratio": 100.0}


@dataclass(frozen=True, kw_only=True)
class Inputs:
    """What `write_inputs` has made: paths by name, and how checkpoints are exported."""

    checkpoints: Mapping[str, Path]
    options: Mapping[str, Mapping[str, Any]]
    artifacts: Mapping[str, Path]
    statistics: Path
    report: Path
    text: Path
    source: Path = field(default=Path())
    for_tensorrt: Path = field(default=Path())


def write_inputs(place: Path) -> Inputs:
    """Make what is missing of them; takes half a minute the first time."""
    checkpoints = {
        "llama": place / "llama",
        "sharded": place / "sharded",
        "pickled": place / "pickled",
        "fp8": place / "fp8",
        "window": place / "window",
        "bert": place / "bert",
        "marian": place / "marian",
        "embedding": place / "embedding",
        "speech": place / "speech",
        "image": place / "image",
        "gguf": place / "gguf" / "tiny.gguf",
        "gguf-q8": place / "gguf-q8" / "tiny-q8.gguf",
        "adapter": place / "adapter",
    }
    options = {"pickled": {"allow_pickle": True}}
    artifacts = {name: place / f"{name}-artifact" for name in _PRECISIONS}
    inputs = Inputs(
        checkpoints=checkpoints,
        options=options,
        artifacts=artifacts,
        statistics=place / "statistics",
        report=place / "report" / "report.json",
        text=place / "text.jsonl",
        source=checkpoints["llama"],
        for_tensorrt=place / "tensorrt-artifact",
    )
    if not (place / "made").exists():
        shutil.rmtree(place, ignore_errors=True)
        place.mkdir(parents=True)
        write_checkpoints(checkpoints)
        _write_others(inputs)
        (place / "made").touch()
    return inputs


def write_checkpoints(paths: Mapping[str, Path]) -> None:
    """A tiny model in every form; five of them hold the same numbers."""
    from jisu.benchmarks.robustness.other_kinds import write_embedding_model, write_image_model, write_speech_model
    from jisu.benchmarks.studies.gguf_architectures import architectures
    from jisu.benchmarks.studies.gguf_writing import write_gguf
    from jisu.benchmarks.studies.planted_faults import SUBJECTS, write_model

    for name in ("llama", "window", "bert", "marian"):
        family, changes, *_ = SUBJECTS[name]
        write_model(paths[name], family, changes)
    write_embedding_model(paths["embedding"])
    write_speech_model(paths["speech"])
    write_image_model(paths["image"])
    _complete(paths["llama"])
    _shard(paths["llama"], paths["sharded"])
    _pickle(paths["llama"], paths["pickled"])
    _to_float8(paths["llama"], paths["fp8"])
    _adapt(paths["llama"], paths["adapter"])
    for name, quantization in (("gguf", "F32"), ("gguf-q8", "Q8_0")):
        paths[name].parent.mkdir()
        write_gguf(paths[name], architectures()["llama"], quantization=quantization)


def _complete(folder: Path) -> None:
    """Settings of generation and a chat template, as chat models have them."""
    settings = json.loads((folder / "generation_config.json").read_text(encoding="utf-8"))
    (folder / "generation_config.json").write_text(json.dumps({**settings, **_SETTINGS}), encoding="utf-8")
    (folder / "chat_template.jinja").write_text(_TEMPLATE, encoding="utf-8")


def _tensors(folder: Path) -> dict[str, Any]:
    from safetensors.torch import load_file

    return dict(load_file(folder / "model.safetensors"))


def _shard(plain: Path, folder: Path) -> None:
    from safetensors.torch import save_file

    shutil.copytree(plain, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    tensors = _tensors(plain)
    names = sorted(tensors)
    parts = {"model-00001-of-00002.safetensors": names[::2], "model-00002-of-00002.safetensors": names[1::2]}
    for file, part in parts.items():
        save_file({name: tensors[name] for name in part}, folder / file, metadata={"format": "pt"})
    size = sum(tensor.numel() * tensor.element_size() for tensor in tensors.values())
    index = {"metadata": {"total_size": size}, "weight_map": {name: file for file in parts for name in parts[file]}}
    (folder / "model.safetensors.index.json").write_text(json.dumps(index), encoding="utf-8")


def _pickle(plain: Path, folder: Path) -> None:
    import torch

    shutil.copytree(plain, folder, ignore=shutil.ignore_patterns("model.safetensors"))
    torch.save(_tensors(plain), folder / "pytorch_model.bin")


def _to_float8(plain: Path, folder: Path) -> None:
    import torch
    from safetensors.torch import save_file

    shutil.copytree(plain, folder)
    stored = {}
    for name, weight in _tensors(plain).items():
        stored[name] = weight
        if name.endswith("proj.weight"):
            scale = weight.abs().max() / 448
            stored[name] = (weight / scale).to(torch.float8_e4m3fn)
            stored[f"{name}_scale"] = scale.reshape(1)
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    config = {"producer": {"name": "modelopt"}, "quantization": {"quant_algo": "FP8", "exclude_modules": ["lm_head"]}}
    (folder / "hf_quant_config.json").write_text(json.dumps(config), encoding="utf-8")


def _adapt(plain: Path, folder: Path) -> None:
    """A LoRA folder, and the name of the model that it is for."""
    import torch
    from safetensors.torch import save_file

    generator = torch.Generator().manual_seed(0)
    tensors = {}
    for name, weight in _tensors(plain).items():
        if name.endswith("q_proj.weight"):
            stem = f"base_model.model.{name.removesuffix('.weight')}"
            tensors[f"{stem}.lora_A.weight"] = torch.randn(4, weight.shape[1], generator=generator) * 0.3
            tensors[f"{stem}.lora_B.weight"] = torch.randn(weight.shape[0], 4, generator=generator) * 0.3
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": 4, "lora_alpha": 8, "target_modules": ["q_proj"], "bias": "none"}
    config |= {"base_model_name_or_path": str(plain), "use_rslora": False, "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def _write_others(inputs: Inputs) -> None:
    from jisu.exporter import calibrate, export

    for name, precision in _PRECISIONS.items():
        source = inputs.checkpoints.get(name, inputs.source)
        loose: dict[str, Any] = {} if precision == "fp32" else _LOOSE
        export(source, inputs.artifacts[name], precision=precision, **loose)
    export(inputs.source, inputs.for_tensorrt, precision="fp16", target="tensorrt", **_LOOSE)
    calibrate(inputs.source, inputs.statistics, windows=4, window_tokens=64)
    words = "the model reads the words of the text and the next word is one of the model's own words "
    inputs.text.write_text("".join(json.dumps({"text": words * 30}) + "\n" for _ in range(8)), encoding="utf-8")
    _write_report(inputs)


def _write_report(inputs: Inputs) -> None:
    from jisu.benchmarks.compare.run import ComparisonRequest, compare

    compare(
        ComparisonRequest(
            artifacts=(inputs.artifacts["llama"], inputs.artifacts["int8"]),
            out=inputs.report.parent,
            workloads=("short-chat",),
            trials=2,
            threads=1,
        )
    )
