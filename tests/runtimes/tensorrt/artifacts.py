"""Artifacts for TensorRT, exported in a moment: the gate's minutes are another test's business."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

from exporter.artifact import Artifact
from tests.models import TINY_VOCAB, tiny_tokenizer, write_tiny
from tests.own_modules import Recurrent, seeded

RTX_MISSING = "TensorRT-RTX is not installed: pip install -c constraints.txt -e '.[tensorrt-rtx]'"
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 16}),
    "gemma2": ("Gemma2Config", {"head_dim": 16, "sliding_window": 8}),
}


def exported(folder: Path, family: str | Path, precision: str) -> Artifact:
    """A model of two layers of a family, an LSTM or a checkpoint, for tensorrt; nothing but the gate is left out."""
    from exporter import pipeline
    from exporter.gate import GateResult
    from exporter.gate.result import Check

    check = Check(name="none", passed=True, value=None, limit=None, unit="", detail="Left out by a test.")
    result = GateResult(checks=(check,), reference="none")
    source: Any = None
    more: dict[str, Any] = {}
    if isinstance(family, Path):
        source, family = family, family.stem
    elif family == "lstm":
        source, more = seeded(Recurrent), {"tokenizer": tiny_tokenizer()}
    else:
        source = write_tiny(folder / f"{family}-source", _config(*_FAMILIES[family]))
    with mock.patch.object(pipeline, "prove", lambda *_, **__: result):
        return pipeline.export(source, folder / f"{family}-{precision}", target="tensorrt", precision=precision, **more)


def _config(kind: str, changes: dict[str, Any]) -> Any:
    import transformers

    settings: dict[str, Any] = {
        "hidden_size": 64,
        "intermediate_size": 128,
        "num_hidden_layers": 2,
        "num_attention_heads": 4,
        "num_key_value_heads": 2,
        "vocab_size": TINY_VOCAB,
        "max_position_embeddings": 512,
        "bos_token_id": 0,
        "eos_token_id": 1,
        "pad_token_id": 2,
    }
    return getattr(transformers, kind)(**{**settings, **changes})
