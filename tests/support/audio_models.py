"""Tiny models of recordings and texts with random weights, each with its processor, written in a moment."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.support.image_models import VOCAB, random_model
from tests.support.models import tiny_tokenizer

_TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 1024,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
WINDOW = 2  # seconds
_BANDS = 16
_TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'audio' %}MARK"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)


def write_audio_model(folder: Path, family: str) -> Path:
    """Write a model of a family that `FAMILIES` names; returns its folder."""
    from jisu.exporter.sources.quiet import quiet_transformers

    with quiet_transformers():
        model, processor = FAMILIES[family]()
        folder.mkdir(parents=True)
        model.save_pretrained(str(folder))
        processor.tokenizer.save_pretrained(str(folder))
        getattr(processor, "audio_processor", getattr(processor, "feature_extractor", None)).save_pretrained(
            str(folder)
        )
    kept = ("audio_token", "max_audio_len")
    settings = {name: getattr(processor, name) for name in kept if hasattr(processor, name)}
    record = {"processor_class": type(processor).__name__, **settings}
    (folder / "processor_config.json").write_text(json.dumps(record), encoding="utf-8")
    return folder


def _tokenizer(mark: str, *others: str, named: dict[str, str] | None = None) -> Any:
    tokenizer = tiny_tokenizer()
    if named:
        special = {"bos_token": "<s>", "eos_token": "</s>", "pad_token": "<pad>"}
        backend = tokenizer.backend_tokenizer
        tokenizer = type(tokenizer)(tokenizer_object=backend, extra_special_tokens=named, **special)
    else:
        tokenizer.add_special_tokens({"additional_special_tokens": [mark, *others]})
    tokenizer.chat_template = _TEMPLATE.replace("MARK", mark)
    return tokenizer


def _encoder(**others: Any) -> dict[str, Any]:
    return {
        "num_mel_bins": _BANDS,
        "d_model": 32,
        "encoder_layers": 2,
        "encoder_attention_heads": 2,
        "encoder_ffn_dim": 48,
        "max_source_positions": WINDOW * 50,
        **others,
    }


def _extractor() -> Any:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=_BANDS, chunk_length=WINDOW, return_attention_mask=True)


def _qwen2_audio() -> tuple[Any, Any]:
    import transformers

    tokenizer = _tokenizer("<|AUDIO|>", "<|audio_bos|>", "<|audio_eos|>")
    processor = transformers.Qwen2AudioProcessor(
        feature_extractor=_extractor(), tokenizer=tokenizer, chat_template=tokenizer.chat_template
    )
    config = transformers.Qwen2AudioConfig(
        text_config={"model_type": "qwen2", **_TEXT},
        audio_config={"model_type": "qwen2_audio_encoder", **_encoder()},
        audio_token_index=tokenizer.convert_tokens_to_ids("<|AUDIO|>"),
    )
    return random_model(transformers.Qwen2AudioForConditionalGeneration, config), processor


def _audioflamingo3() -> tuple[Any, Any]:
    import transformers

    tokenizer = _tokenizer("<sound>")
    processor = transformers.AudioFlamingo3Processor(
        feature_extractor=_extractor(), tokenizer=tokenizer, chat_template=tokenizer.chat_template, max_audio_len=7
    )
    config = transformers.AudioFlamingo3Config(
        text_config={"model_type": "qwen2", **_TEXT},
        audio_config={"model_type": "audioflamingo3_encoder", **_encoder()},
        audio_token_id=tokenizer.convert_tokens_to_ids("<sound>"),
    )
    return random_model(transformers.AudioFlamingo3ForConditionalGeneration, config), processor


def _glmasr() -> tuple[Any, Any]:
    import transformers

    tokenizer = _tokenizer("<|pad|>")
    processor = transformers.GlmAsrProcessor(
        feature_extractor=_extractor(),
        tokenizer=tokenizer,
        chat_template=tokenizer.chat_template,
        audio_token="<|pad|>",
    )
    config = transformers.GlmAsrConfig(
        text_config={"model_type": "llama", **_TEXT},
        audio_config={
            "model_type": "glmasr_encoder",
            "hidden_size": 32,
            "intermediate_size": 128,
            "num_hidden_layers": 2,
            "num_attention_heads": 4,
            "num_mel_bins": _BANDS,
        },
        audio_token_id=tokenizer.convert_tokens_to_ids("<|pad|>"),
        tie_word_embeddings=False,
    )
    return random_model(transformers.GlmAsrForConditionalGeneration, config), processor


def _qwen3_asr() -> tuple[Any, Any]:
    import transformers
    from transformers.models.qwen3_asr.feature_extraction_qwen3_asr import Qwen3ASRFeatureExtractor

    named = {"audio_token": "<|audio_pad|>", "audio_bos_token": "<|audio_start|>", "audio_eos_token": "<|audio_end|>"}
    tokenizer = _tokenizer("<|audio_pad|>", named=named)
    extractor = Qwen3ASRFeatureExtractor(feature_size=_BANDS, n_window=50)
    processor = transformers.Qwen3ASRProcessor(
        feature_extractor=extractor, tokenizer=tokenizer, chat_template=tokenizer.chat_template
    )
    config = transformers.Qwen3ASRConfig(
        text_config={"model_type": "qwen3", "head_dim": 16, **_TEXT},
        eos_token_id=1,
        pad_token_id=2,
        audio_config={
            "model_type": "qwen3_asr_encoder",
            **_encoder(n_window=50, n_window_infer=200, output_dim=64, downsample_hidden_size=8),
        },
        audio_token_id=tokenizer.convert_tokens_to_ids("<|audio_pad|>"),
        tie_word_embeddings=False,
    )
    return random_model(transformers.Qwen3ASRForConditionalGeneration, config), processor


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "qwen2_audio": _qwen2_audio,
    "audioflamingo3": _audioflamingo3,
    "glmasr": _glmasr,
    "qwen3_asr": _qwen3_asr,
}
