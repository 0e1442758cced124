"""Tiny checkpoints with random weights that hear: one that says tokens, one that labels frames."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from tests.support.models import tiny_tokenizer

# Of the first: special tokens behind the tokenizer's, then 101 times of 0.02 s in a window of 2 s.
END, START, ENGLISH, GERMAN, TRANSCRIBE, TRANSLATE, NO_TIMES = 1, 400, 401, 402, 403, 404, 405
FIRST_TIME, VOCAB = 406, 507
LETTERS = "ABCDEFGHIJ"


def write_tiny_speech(folder: Path, *, tokenizer: bool = True, **settings: Any) -> Path:
    """Write an encoder of a spectrogram with a decoder; ``settings`` go into those of generation."""
    import torch
    from transformers import (
        GenerationConfig,
        WhisperConfig,
        WhisperFeatureExtractor,
        WhisperForConditionalGeneration,
    )

    from jisu.exporter.sources.quiet import quiet_transformers

    special = {"bos_token_id": END, "eos_token_id": END, "pad_token_id": END, "decoder_start_token_id": START}
    config = WhisperConfig(
        vocab_size=VOCAB,
        num_mel_bins=16,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        max_source_positions=100,
        max_target_positions=40,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **special,
    )
    generation = {
        **special,
        "max_length": 40,
        "is_multilingual": True,
        "lang_to_id": {"<|en|>": ENGLISH, "<|de|>": GERMAN},
        "task_to_id": {"transcribe": TRANSCRIBE, "translate": TRANSLATE},
        "no_timestamps_token_id": NO_TIMES,
        "max_initial_timestamp_index": 10,
        "suppress_tokens": [7, 9, START, ENGLISH, GERMAN, TRANSCRIBE, TRANSLATE],
        "begin_suppress_tokens": [END],
        "return_timestamps": False,
        **settings,
    }
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = WhisperForConditionalGeneration(config)
        _enlarge(model)
        model.generation_config = GenerationConfig(**generation)
        model.save_pretrained(str(folder))
        WhisperFeatureExtractor(feature_size=16, chunk_length=2).save_pretrained(str(folder))
    if tokenizer:
        plain = tiny_tokenizer()
        plain.chat_template = None
        plain.save_pretrained(str(folder))
    return folder


def write_windowless_speech(folder: Path) -> Path:
    """Write an encoder of any number of frames with a decoder whose positions are counted over all but padding."""
    import torch
    from transformers import Speech2TextConfig, Speech2TextFeatureExtractor, Speech2TextForConditionalGeneration

    from jisu.exporter.sources.quiet import quiet_transformers

    config = Speech2TextConfig(
        vocab_size=VOCAB,
        d_model=32,
        encoder_layers=2,
        decoder_layers=2,
        encoder_attention_heads=2,
        decoder_attention_heads=2,
        encoder_ffn_dim=64,
        decoder_ffn_dim=64,
        conv_channels=32,
        max_target_positions=40,
        max_source_positions=1000,
        decoder_start_token_id=2,
        bos_token_id=0,
        eos_token_id=2,
        pad_token_id=1,  # its table of positions has room for two before the first
    )
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Speech2TextForConditionalGeneration(config)
        _enlarge(model)
        model.save_pretrained(str(folder))
        Speech2TextFeatureExtractor().save_pretrained(str(folder))
    plain = tiny_tokenizer()
    plain.chat_template = None
    plain.eos_token, plain.pad_token = "<pad>", "</s>"
    plain.save_pretrained(str(folder))
    return folder


def write_tiny_frames(folder: Path) -> Path:
    """Write a model that gives each frame of the samples a letter."""
    import torch
    from transformers import Wav2Vec2Config, Wav2Vec2FeatureExtractor, Wav2Vec2ForCTC

    from jisu.exporter.sources.quiet import quiet_transformers

    config = Wav2Vec2Config(
        vocab_size=2 + len(LETTERS),
        hidden_size=32,
        num_hidden_layers=2,
        num_attention_heads=2,
        intermediate_size=64,
        conv_dim=(16, 16, 16),
        conv_kernel=(10, 8, 4),
        conv_stride=(5, 4, 4),
        num_conv_pos_embeddings=16,
        num_conv_pos_embedding_groups=4,
        pad_token_id=0,
    )
    folder.mkdir(parents=True, exist_ok=True)
    with quiet_transformers(), torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = Wav2Vec2ForCTC(config)
        _enlarge(model, factor=8.0)
        model.save_pretrained(str(folder))
        Wav2Vec2FeatureExtractor(do_normalize=True).save_pretrained(str(folder))
    vocabulary = {"<pad>": 0, "|": 1, **{letter: index + 2 for index, letter in enumerate(LETTERS)}}
    (folder / "vocab.json").write_text(json.dumps(vocabulary), encoding="utf-8")
    return folder


def _enlarge(model: Any, factor: float = 4.0) -> None:
    """Larger weights than a fresh model's: answers differ clearly."""
    import torch

    with torch.no_grad():
        for parameter in model.parameters():
            if parameter.dim() == 2:
                parameter.mul_(factor)
