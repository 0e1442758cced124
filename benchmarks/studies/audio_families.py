"""Tries every type of transformers that reads recordings beside texts, and records what becomes of it.

    python -m benchmarks.studies.audio_families --out FILE.json [--types voxtral ...] [--seconds 240] [--page]

As `benchmarks.studies.image_families` does for images: a small checkpoint is made of each type's default configuration,
and of its processor around a tokenizer of bytes, with recordings of two seconds where its windows can be made short.
"""

from __future__ import annotations

import contextlib
import inspect
import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from jisu.benchmarks.studies.image_families import reason, record
from jisu.benchmarks.studies.image_families import rendered as rendered_rows
from jisu.benchmarks.studies.random_weights import randomize
from jisu.benchmarks.studies.small_image_models import SMALL, byte_tokenizer, parts_of, small_config
from jisu.exporter.sources.audio_processor import extractor_of
from jisu.exporter.sources.image_processor import itself

_SECONDS = 2  # of a window
_BANDS = 16
_NUMBERS: dict[str, Any] = {
    **SMALL,
    "intermediate_size": 256,
    "encoder_layers": 2,
    "encoder_attention_heads": 4,
    "encoder_ffn_dim": 96,
    "num_mel_bins": _BANDS,
    "output_dim": 64,
    "downsample_hidden_size": 16,
    "max_source_positions": 50 * _SECONDS,
    "n_window": 50,
    "n_window_infer": 200,
    "conf_num_hidden_layers": 2,
    "hidden_dim": 64,
    "dim_head": 16,
    "cross_attention_hidden_size": 64,
    "audio_hidden_size": 64,
}
_RESULTS = {
    "passes": "pass",
    "not made": "could not be made small in this general way",
    "not ended": "did not end in time",
    "crashed": "ended with an error of this program",
}
_REASONS = {
    "aten.searchsorted": "rows that depend on the numbers of tokens in the prompt, by an operator that ONNX lacks",
    "data-dependent expression": "frames are cut into chunks by numbers that a trace does not have",
    "apply_chat_template": "prompts of a template that is no text (mistral-common)",
    "unexpected keyword argument 'sampling_rate'": "marks are written in a call of its own",
    "only supports `return_tensors='pt'`": "no features: a network of its own reads the samples",
    "cannot select an axis to squeeze": "an extractor that takes no plain array of samples; exported for texts alone",
    "differ from those of every known way": "features of a way that is not known; exported for texts alone",
    "no audio_token_id": "no token of its configuration stands for sound; exported for texts alone",
    "for a longer recording": "its extractor cuts windows, and times stand between tokens; exported for texts alone",
    "hears in windows that are not known": "windows of rows that are not alike",
    "is not the model it was made from": "sizes of chunks that a trace fixes; the gate rejects it",
    "audio_input_ids": "tokens of sound instead of features",
    "connect to": "its class looks for voices on the network",
}
# Types whose tokens have positions on three axes.
_SECTIONED = ("qwen2_5_omni_thinker", "qwen3_omni_moe_thinker")
# Types of models that speak: their classes read recordings, and say no texts.
_SPEAK = ("csm", "gradium_phonon_tts", "moshi", "pocket_tts", "qwen2_5_omni_talker", "vibevoice")


def tried(model_type: str, folder: Path) -> tuple[str, str]:
    """Make one small checkpoint and export it; returns what became of it, and why."""
    try:
        _write(model_type, folder / "source")
    except Exception as error:  # noqa: BLE001 - configurations that are made small raise anything
        return "not made", " ".join(f"{type(error).__name__}: {error}".split())[:300]
    from jisu.exporter.contract.errors import JisuError
    from jisu.exporter.pipeline import export
    from jisu.exporter.sources.folder import load_folder

    try:
        # Without its images, which are another study's.
        source = load_folder(folder / "source", images=False)
        if source.hearing is None:
            return "refused", "exported for texts alone; " + reason(" ".join(source.notes), {})
        made = export(str(folder / "source"), out=folder / "artifact")
    except JisuError as error:
        return "refused", " ".join(str(error).replace(str(folder / "source"), "the checkpoint").split())[:600]
    if made.manifest.model_kind == "audio-text-to-text":
        return "passes", ""
    return "refused", "exported for its images"


def known_types() -> list[str]:
    """Types whose class reads recordings and texts and has no encoder of texts."""
    from transformers import CONFIG_MAPPING

    types: list[str] = []
    for model_type in sorted(set(CONFIG_MAPPING) - set(_SPEAK)):
        with contextlib.suppress(Exception):
            if _class_of(CONFIG_MAPPING[model_type]()) is not None:
                types.append(model_type)
    return types


def rendered(rows: Sequence[Mapping[str, Any]]) -> str:
    """What a page says of the rows."""
    return rendered_rows(rows, _RESULTS, _REASONS)


def _class_of(config: Any) -> Any | None:
    """The class that reads recordings by a configuration that names none."""
    import transformers

    from jisu.exporter.sources.audio_text import audio_text_class

    kind = audio_text_class(config)
    if kind is None:
        stem = type(config).__name__.removesuffix("Config")
        config.architectures = [f"{stem}ForConditionalGeneration"]
        kind = audio_text_class(config)
    return kind if kind is not None and kind is not getattr(transformers, "PreTrainedModel", None) else None


def _write(model_type: str, folder: Path) -> None:
    """Save a small model of random weights with its processor."""
    import torch
    from transformers import CONFIG_MAPPING

    config_class: Any = CONFIG_MAPPING[model_type]
    config = small_config(config_class(), {}, sections=model_type in _SECTIONED, numbers=_NUMBERS)
    processor = _processor(model_type)
    tokenizer = processor.tokenizer
    token = processor.tokenizer.convert_tokens_to_ids(str(processor.audio_token))
    for name in ("audio_token_id", "audio_token_index"):
        if hasattr(config, name):
            setattr(config, name, token)
    for part in parts_of(config):
        if isinstance(getattr(part, "vocab_size", None), int):
            part.vocab_size = max(part.vocab_size, len(tokenizer))
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if hasattr(part, name):
                setattr(part, name, getattr(tokenizer, name))
    if model_type in _SECTIONED:  # which their positions read, and their configurations leave out (transformers 5.23)
        config.vision_start_token_id = tokenizer.convert_tokens_to_ids("<|vision_start|>")
    kind = _class_of(config)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        assert kind is not None, "the type is one of those that are known"
        model = kind(config).eval()
        randomize(model)
    folder.mkdir(parents=True)
    model.save_pretrained(str(folder))
    processor.tokenizer.save_pretrained(str(folder))
    extractor_of(processor).save_pretrained(str(folder))
    stated: dict[str, Any] = {"processor_class": type(processor).__name__}
    stated |= {name: value for name, value in vars(processor).items() if isinstance(value, (int, str))}
    stated.pop("chat_template", None)
    (folder / "processor_config.json").write_text(json.dumps(stated), encoding="utf-8")


def _processor(model_type: str) -> Any:
    import transformers
    from transformers.models.auto import feature_extraction_auto, processing_auto

    from jisu.exporter.sources.image_processor import without_videos

    whole = model_type.removesuffix("_thinker")
    named = vars(processing_auto)["PROCESSOR_MAPPING_NAMES"].get(whole)
    # Where the table names none it is that of the encoder, which most have from one family.
    extractor = vars(feature_extraction_auto)["FEATURE_EXTRACTOR_MAPPING_NAMES"].get(whole, "WhisperFeatureExtractor")
    if not named:
        raise LookupError("transformers names no processor of its recordings")
    kind, extractor_kind = itself(getattr(transformers, named)), getattr(transformers, extractor)
    if getattr(extractor_kind, "is_dummy", False):
        raise LookupError(f"{extractor} needs packages that are not installed")
    accepted = inspect.signature(extractor_kind.__init__).parameters
    numbers = {"feature_size": _BANDS, "chunk_length": _SECONDS, "n_window": 50, "n_mels": _BANDS, "hop_length": 160}
    with without_videos():
        features = extractor_kind(**{name: value for name, value in numbers.items() if name in accepted})
        parts = {"feature_extractor": features, "audio_processor": features, "tokenizer": byte_tokenizer(kind)}
        return kind(*[parts.get(name) for name in kind.get_attributes()])


def main(arguments: list[str] | None = None) -> int:
    return record(arguments, str(__doc__), known_types, tried, rendered)


if __name__ == "__main__":
    raise SystemExit(main())
