"""Tiny checkpoints of the kinds that have more than text or less than answers: vectors, recordings, images."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from typing import Any

_WIDTH, _HEADS, _LAYERS = 64, 4, 2
_START, _VOCAB, _PATCH, _EDGE = 384, 392, 7, 28


def write_embedding_model(folder: Path) -> None:
    """An encoder as sentence-transformers lays it out: pooling, a dense layer, normalization, prompts."""
    import torch
    from safetensors.torch import save_file

    from jisu.benchmarks.studies.planted_faults import SUBJECTS, write_model

    write_model(folder, "BertModel", SUBJECTS["bert"][1])
    width = json.loads((folder / "config.json").read_text(encoding="utf-8"))["hidden_size"]
    kinds = (("Transformer", ""), ("Pooling", "1_Pooling"), ("Dense", "2_Dense"), ("Normalize", "3_Normalize"))
    modules = [
        {"idx": number, "name": str(number), "path": path, "type": f"sentence_transformers.models.{kind}"}
        for number, (kind, path) in enumerate(kinds)
    ]
    dense: dict[str, Any] = {"in_features": width, "out_features": 32, "bias": True}
    dense["activation_function"] = "torch.nn.modules.activation.Tanh"
    _write(folder / "modules.json", modules)
    _write(folder / "1_Pooling" / "config.json", {"word_embedding_dimension": width, "pooling_mode_mean_tokens": True})
    _write(folder / "2_Dense" / "config.json", dense)
    _write(folder / "sentence_bert_config.json", {"max_seq_length": 256, "do_lower_case": False})
    prompts = {"query": "find: ", "passage": "text: "}
    _write(
        folder / "config_sentence_transformers.json",
        {"prompts": prompts, "default_prompt_name": None, "similarity_fn_name": "cosine"},
    )
    random = torch.Generator().manual_seed(0)
    weights = {
        "linear.weight": torch.randn(32, width, generator=random) / 8,
        "linear.bias": torch.randn(32, generator=random) / 8,
    }
    save_file(weights, folder / "2_Dense" / "model.safetensors")


def write_speech_model(folder: Path) -> None:
    """An encoder of a spectrogram with a decoder; special tokens behind those of the tokenizer."""
    import torch

    transformers: Any = import_module("transformers")

    from jisu.benchmarks.studies.planted_faults import byte_tokenizer

    english, transcribe, no_times = _START + 1, _START + 2, _START + 3
    ends = {"bos_token_id": 1, "eos_token_id": 1, "pad_token_id": 1, "decoder_start_token_id": _START}
    config = transformers.WhisperConfig(
        vocab_size=_VOCAB,
        num_mel_bins=16,
        d_model=_WIDTH,
        encoder_layers=_LAYERS,
        decoder_layers=_LAYERS,
        encoder_attention_heads=_HEADS,
        decoder_attention_heads=_HEADS,
        encoder_ffn_dim=_WIDTH,
        decoder_ffn_dim=_WIDTH,
        max_source_positions=100,
        max_target_positions=40,
        suppress_tokens=None,
        begin_suppress_tokens=None,
        **ends,
    )
    model = _with_numbers(transformers.WhisperForConditionalGeneration(config))
    model.generation_config = transformers.GenerationConfig(
        **ends,
        max_length=40,
        is_multilingual=True,
        lang_to_id={"<|en|>": english},
        task_to_id={"transcribe": transcribe},
        no_timestamps_token_id=no_times,
        suppress_tokens=[7, _START, english, transcribe],
        begin_suppress_tokens=[1],
    )
    with torch.no_grad():
        model.save_pretrained(str(folder))
    transformers.WhisperFeatureExtractor(feature_size=16, chunk_length=2).save_pretrained(str(folder))
    byte_tokenizer().save_pretrained(str(folder))


def write_image_model(folder: Path) -> None:
    """A vision tower, a projection and a decoder; a chat template that has a mark for each image."""
    transformers: Any = import_module("transformers")
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    from jisu.benchmarks.studies.planted_faults import byte_tokenizer

    tokenizer = byte_tokenizer()
    tokenizer.add_special_tokens({"additional_special_tokens": ["<image>"]})
    mark = tokenizer.convert_tokens_to_ids("<image>")
    sizes = {"num_hidden_layers": _LAYERS, "num_attention_heads": _HEADS, "intermediate_size": _WIDTH}
    ends = {"bos_token_id": 0, "eos_token_id": 1, "pad_token_id": 2}
    decoder = {"hidden_size": _WIDTH, "num_key_value_heads": 2, "max_position_embeddings": 1024, "vocab_size": _VOCAB}
    tower = {"hidden_size": 32, "image_size": _EDGE, "patch_size": _PATCH}
    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", **sizes, **decoder, **ends},
        vision_config={"model_type": "clip_vision_model", **sizes, **tower},
        image_token_id=mark,
        image_seq_length=(_EDGE // _PATCH) ** 2,
    )
    _with_numbers(transformers.LlavaForConditionalGeneration(config)).save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    prepares: Any = LlavaImageProcessorPil
    crop = {"height": _EDGE, "width": _EDGE}
    prepares(size={"shortest_edge": _EDGE}, crop_size=crop).save_pretrained(str(folder))
    record = {"patch_size": _PATCH, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1}
    _write(folder / "processor_config.json", {"processor_class": "LlavaProcessor", **record})


def _with_numbers(model: Any) -> Any:
    """The model with random weights, large enough to show a change."""
    import torch

    random = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for parameter in model.parameters():
            size = parameter.shape[-1] ** -0.5 if parameter.dim() > 1 else 0.1
            parameter.copy_(torch.randn(parameter.shape, generator=random) * size + (parameter.dim() < 2))
    return model.eval()


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(data), encoding="utf-8")
