"""Artifacts for TensorRT, exported in a moment: the gate's minutes are another test's business.

A family is written and traced once, and calibrated on a page.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any
from unittest import mock

from torch import nn

from jisu.exporter.contract.artifact import Artifact, read_artifact
from jisu.exporter.precision.precision import PRECISIONS
from tests.exporter.passes.draft import copied
from tests.support.models import (
    TINY_VOCAB,
    biased_text_to_text_config,
    text_to_text_config,
    tiny_tokenizer,
    write_tiny,
    write_tiny_classifier,
)
from tests.support.own_modules import Attentive, Recurrent, seeded

RTX_MISSING = "TensorRT-RTX is not installed: pip install -c constraints.txt -e '.[tensorrt-rtx]'"
_FAMILIES: dict[str, tuple[str, dict[str, Any]]] = {
    "llama": ("LlamaConfig", {}),
    "qwen3": ("Qwen3Config", {"head_dim": 16, "num_hidden_layers": 1}),
    "gemma2": ("Gemma2Config", {"head_dim": 16, "sliding_window": 8}),
    # Its scores get numbers added (ALiBi).
    "bloom": ("BloomConfig", {"n_head": 4, "n_layer": 1}),
}
_OWN: dict[str, Callable[[], Any]] = {
    "lstm": partial(seeded, Recurrent),
    "gru": partial(seeded, Recurrent, nn.GRU),
    "attentive": partial(seeded, Attentive),
}
# With an encoder and a decoder.
_TEXT_TO_TEXT: dict[str, Callable[[], Any]] = {
    "marian": text_to_text_config,
    "t5": partial(biased_text_to_text_config, num_layers=1),
}
_PAGE = "\n".join(f"The {number}th line of a page says little more than the one before it." for number in range(40))


def exported(folder: Path, family: str | Path, precision: str, *, target: str = "tensorrt") -> Artifact:
    """A model of two layers of a family, an own module or a checkpoint, each once; nothing but the gate is left out.

    A checkpoint, which is a large one, is not run on text either: by the rules alone all of it fits into half.
    """
    from jisu.exporter import pipeline
    from jisu.exporter.gate import GateResult
    from jisu.exporter.gate.result import Check
    from jisu.exporter.graph import activation_ranges
    from jisu.exporter.quantization import w8a8

    check = Check(name="none", passed=True, value=None, limit=None, unit="", detail="Left out by a test.")
    result = GateResult(checks=(check,), reference="none")
    source: Any = None
    more: dict[str, Any] = {}
    measured = activation_ranges.measure_ranges
    is_large = isinstance(family, Path)
    if isinstance(family, Path):
        source, family = family, family.stem
        measured = _nothing
    elif family in _OWN:
        source, more = _OWN[family](), {"tokenizer": tiny_tokenizer()}
    else:
        source = _source(folder / f"{family}-source", family)
    page = folder / "page.txt"
    page.write_text(_PAGE, encoding="utf-8")
    if precision in ("fp16", "bf16", "int8", "int4", "w8a8"):
        more["calibration"] = page
    out = folder / f"{family}-{target}-{precision}"
    if out.exists():
        return read_artifact(out)
    # How well 4 bits are chosen is no matter here, and takes most of an export.
    nearest = replace(PRECISIONS["int4"], algorithm="rtn")
    with (
        mock.patch.dict(PRECISIONS, {"int4": nearest}),
        # Of a real model a few layers keep float32 inputs; of a small one none would.
        mock.patch.object(w8a8, "_fewest", lambda *_: (1, {1: 0.0})),
        mock.patch.object(pipeline, "prove", lambda *_, **__: result),
        mock.patch.object(activation_ranges, "measure_ranges", measured),
        mock.patch.object(pipeline, "trace_source", lambda source, **_: _traced(family, source, is_large=is_large)),
        mock.patch.object(pipeline, "trace_source_encoder", lambda source: _traced_encoder(family, source)),
    ):
        return pipeline.export(source, out, target=target, precision=precision, **more)


def _nothing(*_: Any) -> dict[str, float]:
    return {}


_TRACED: dict[str, Any] = {}


def _traced(family: str, source: Any, *, is_large: bool) -> Any:
    """The graph, for the next precision too; a whole model's weights are not copied."""
    from jisu.exporter.tracing.trace_source import trace_source

    if family not in _TRACED:
        _TRACED[family] = trace_source(source)
    return _TRACED.pop(family) if is_large else copied(_TRACED[family])


def _traced_encoder(family: str, source: Any) -> Any:
    from jisu.exporter.tracing.trace_source import trace_source_encoder

    if family not in _TEXT_TO_TEXT:
        return None
    if f"{family}, encoder" not in _TRACED:
        _TRACED[f"{family}, encoder"] = trace_source_encoder(source)
    return copied(_TRACED[f"{family}, encoder"])


def _source(place: Path, family: str) -> Path:
    if place.exists():
        return place
    if family == "bert":
        return write_tiny_classifier(place)
    return write_tiny(place, _TEXT_TO_TEXT[family]() if family in _TEXT_TO_TEXT else _config(family))


def _config(family: str) -> Any:
    import transformers

    if family not in _FAMILIES:
        from jisu.benchmarks.studies.tiny_configurations import tiny_configuration

        return tiny_configuration(transformers.models.auto.configuration_auto.CONFIG_MAPPING[family])
    kind, changes = _FAMILIES[family]
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
