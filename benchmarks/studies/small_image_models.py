"""Writes small checkpoints of models of images and texts: default configurations with small numbers, random weights.

One way for all types. What it gets wrong for a type is in `_DIFFERENT`, as values of the type's own configuration.
"""

from __future__ import annotations

import inspect
import json
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from jisu.benchmarks.studies.random_weights import randomize

# Numbers by the names that configurations have for them. What is not named keeps its default.
SMALL: dict[str, Any] = {
    "hidden_size": 64,
    "embed_dim": 64,
    "d_model": 64,
    "dim": 64,
    "out_hidden_size": 64,
    "projection_dim": 64,
    "text_hidden_size": 64,
    "projector_hidden_size": 64,
    "intermediate_size": 96,
    "ffn_dim": 96,
    "projector_intermediate_size": 64,
    "moe_intermediate_size": 32,
    "shared_expert_intermediate_size": 32,
    "num_hidden_layers": 2,
    "num_layers": 2,
    "n_layers": 2,
    "depth": 2,
    "num_attention_heads": 4,
    "num_heads": 4,
    "n_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 16,
    "kv_lora_rank": 16,
    "q_lora_rank": 16,
    "qk_rope_head_dim": 16,
    "qk_nope_head_dim": 16,
    "v_head_dim": 16,
    "num_experts": 4,
    "n_routed_experts": 4,
    "num_local_experts": 4,
    "moe_num_experts": 4,
    "num_experts_per_tok": 2,
    "n_group": 1,
    "topk_group": 1,
    "vocab_size": 1024,
    "max_position_embeddings": 4096,
    "num_position_embeddings": 64,
    "deepstack_visual_indexes": [0, 1],
    "fullatt_block_indexes": [1],
    "encoder_hidden_size": 64,
    "mm_tokens_per_image": 4,
    "vision_feature_layers": [-2, -1],
    "vision_feature_layer": [-2, -1],
}
_MROPE = [2, 3, 3]  # of half a head
_PATCHES = 8  # of an edge of an image
# What a type's own classes want besides, by the part of its configuration; "" is the whole.
# Tokens of pieces of images, whose names are their numbers in letters.
_PICTURES = {f"IMGIMG{chr(65 + one // 10)}{chr(65 + one % 10)}Z": 600 + one for one in range(10, 74)}
_ROPE = {"rope_type": "default", "rope_theta": 10_000.0}
_DIFFERENT: dict[str, dict[str, dict[str, Any]]] = {
    "chameleon": {"": {"vocabulary_map": {"<image>": 3, **_PICTURES}}, "vq_config": {"num_embeddings": len(_PICTURES)}},
    "emu3": {"": {"vocabulary_map": {"<image>": 3}}},
    "deepseek_ocr2": {"text_config": {"mlp_layer_types": ["dense", "sparse"]}},
    "hunyuan_vl": {"text_config": {"head_dim": 16}},
    "granite4_vision": {
        "": {"deepstack_layer_map": [(-1, 0), (-2, 1)], "spatial_target_layers": [0, 1], "downsample_rate": "1/2"}
    },
    "glm46v": {"text_config": {"rope_parameters": {**_ROPE, "mrope_section": _MROPE}}},
    "glmga": {"text_config": {"rope_parameters": {**_ROPE, "mrope_section": _MROPE}}},
    "ernie4_5_vl_moe": {"text_config": {"rope_parameters": {**_ROPE, "mrope_section": [3, 3, 2]}}},
    "molmo2": {"adapter_config": {"vision_feature_layer": [-1, -2]}, "": {}},
    "cohere_compass": {
        "tokens": {"image_token": "<|IMAGE_PAD|>"},
        "text_config": {
            "rope_parameters": {
                kind: {**_ROPE, "mrope_section": _MROPE} for kind in ("full_attention", "sliding_attention")
            }
        },
    },
    "glm4v_moe": {"text_config": {"rope_parameters": {**_ROPE, "mrope_section": [1, 1, 2]}}},
    # Their processors write 256 tokens for every image.
    "got_ocr2": {"vision_config": {"image_size": 1024}, "images": {"size": {"height": 1024, "width": 1024}}},
    "pp_chart2table": {"vision_config": {"image_size": 1024}, "images": {"size": {"height": 1024, "width": 1024}}},
    # One token of an image is too few for the class itself (transformers 5.23).
    "mistral3": {"images": {"size": {"longest_edge": 448}}},
    "mistral_large4": {"text_config": {"num_key_value_heads": 4}},
    "cosmos3_omni": {"text_config": {"rope_parameters": {**_ROPE, "mrope_section": _MROPE}}},
    "granite_docling": {"processor": {"image_seq_len": 4}},
    "glm5_next": {"text_config": {"num_key_value_heads": 4}},
}
# Processors of types that transformers' table of processors leaves out, as their documentation has them.
_PROCESSORS: dict[str, str] = {
    "fast_vlm": "LlavaProcessor",
    "glm_ocr": "Glm46VProcessor",
    "glmga": "Glm46VProcessor",
    "kosmos-2": "Kosmos2Processor",
    "kosmos-2.5": "Kosmos2_5Processor",
    "cosmos3_omni": "Qwen3VLProcessor",
    "smolvlm": "Idefics3Processor",  # its own wants a package that spells numbers, for videos
}
_MARKS = (
    "<image>",
    "<|image|>",
    "<|image_pad|>",
    "<|video_pad|>",
    "<|vision_start|>",
    "<|vision_end|>",
    "<|begin_of_image|>",
    "<|end_of_image|>",
    "<|IMG_PATCH|>",
    "<|START_OF_IMG|>",
    "<|END_OF_IMG|>",
    "<|video|>",
)
_NAMED = {
    "image_token": "<image>",
    "boi_token": "<|begin_of_image|>",
    "eoi_token": "<|end_of_image|>",
    "start_image_token": "<|vision_start|>",
    "end_image_token": "<|vision_end|>",
    "context_image_token": "<image>",
    "video_token": "<|video_pad|>",
    "image_start_token": "<|vision_start|>",
    "image_end_token": "<|vision_end|>",
    "image_wrapper_token": "<|image|>",
    "image_boundary_token": "<|image|>",
    "image_break_token": "<|image|>",
    "video_start_token": "<|vision_start|>",
    "video_end_token": "<|vision_end|>",
    "audio_token": "<|video|>",
    "boa_token": "<|START_OF_IMG|>",
    "eoa_token": "<|END_OF_IMG|>",
}


def write_small_model(model_type: str, folder: Path) -> None:
    """Save a small model of random weights with its processor; raises what transformers' classes raise."""
    import torch
    import transformers
    from transformers import CONFIG_MAPPING
    from transformers.models.auto.modeling_auto import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES

    kind = getattr(transformers, MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING_NAMES[model_type])
    processor_kind = _processor_class(model_type)
    sections = "mrope_section" in inspect.getsource(sys.modules[kind.__module__])
    different = _DIFFERENT.get(model_type, {})
    config_class: Any = CONFIG_MAPPING[model_type]
    config = small_config(config_class(), different, sections=sections)
    tokenizer = byte_tokenizer(processor_kind, different.get("tokens", {}))
    processor = _processor(model_type, processor_kind, config, tokenizer, different)
    tokenizer = processor.tokenizer
    token = _image_token(processor)
    if getattr(config, "image_grid_pinpoints", None):
        config.image_grid_pinpoints = processor.image_processor.image_grid_pinpoints
    for part in parts_of(config):
        for name in ("image_token_id", "image_token_index"):
            if isinstance(getattr(part, name, "none"), int | None):
                setattr(part, name, token)
        if isinstance(getattr(part, "vocab_size", None), int):
            part.vocab_size = max(part.vocab_size, len(tokenizer))
        for name in ("bos_token_id", "eos_token_id", "pad_token_id"):
            if hasattr(part, name):
                setattr(part, name, getattr(tokenizer, name))
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config).eval().float()
        randomize(model)
    folder.mkdir(parents=True)
    model.save_pretrained(str(folder))
    tokenizer.save_pretrained(str(folder))
    processor.image_processor.save_pretrained(str(folder))
    record: dict[str, Any] = {"processor_class": type(processor).__name__}
    for name, value in vars(processor).items():
        if isinstance(value, (int, str)) and name not in ("chat_template",):
            record[name] = value
    (folder / "processor_config.json").write_text(json.dumps(record), encoding="utf-8")


def small_config(
    default: Any,
    different: Mapping[str, Mapping[str, Any]],
    *,
    sections: bool,
    name: str = "",
    numbers: Mapping[str, Any] = SMALL,
) -> Any:
    """The configuration with small numbers, made by its own class, so that what follows from them follows."""
    settings: dict[str, Any] = {}
    own = vars(type(default)())
    for key, value in vars(default).items():
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            settings[key] = small_config(value, different, sections=sections, name=key, numbers=numbers)
        elif isinstance(value, (bool, int, float, str)) and not key.startswith("_") and own.get(key) != value:
            settings[key] = value  # of this part in this whole
    for key, small in numbers.items():
        try:
            known = getattr(default, key, None)
        except Exception:  # noqa: BLE001 - what differs from layer to layer says so
            continue
        if isinstance(known, tuple) and isinstance(small, list):
            settings[key] = tuple(small)
        elif isinstance(known, type(small)) and not isinstance(known, bool):
            settings[key] = small
    kinds = getattr(default, "layer_types", None)
    if isinstance(kinds, list) and len(set(kinds)) > 1:
        settings["layer_types"] = kinds[-2:]  # of both kinds, mostly
    edge = getattr(default, "patch_size", None)
    size = getattr(default, "image_size", None)
    if edge is not None and size is not None:
        first = edge[0] if isinstance(edge, (list, tuple)) else edge
        settings["image_size"] = (
            type(size)([_PATCHES * first] * 2) if isinstance(size, (list, tuple)) else _PATCHES * first
        )
    rope = getattr(default, "rope_parameters", None)
    if (
        sections
        and getattr(default, "vocab_size", None)
        and (rope is None or "mrope_section" in rope or "rope_type" in rope)
    ):
        settings["rope_parameters"] = {
            "rope_type": "default",
            "rope_theta": 10_000.0,
            **(rope or {}),
            "mrope_section": _MROPE,
        }
    settings |= different.get(name, {})
    return type(default)(**settings)


def parts_of(config: Any) -> list[Any]:
    """A configuration and those in it."""
    parts = [config]
    for value in list(vars(config).values()):
        if hasattr(value, "model_type") and hasattr(value, "to_dict"):
            parts += parts_of(value)
    return parts


def byte_tokenizer(processor_kind: Any, own: Mapping[str, str] | None = None) -> Any:
    """Of bytes, with every token that the processor's source names."""
    import re

    from tokenizers import Tokenizer, decoders, models, pre_tokenizers
    from transformers import PreTrainedTokenizerFast

    source = inspect.getsource(sys.modules[processor_kind.__module__])
    written = re.findall(r"[\"'](<[^\"'<> {}]{1,40}>|\|\w+\||\[[A-Z_]+\])[\"']", source)
    named = {**_NAMED, **(own or {})}
    for name in re.findall(r"tokenizer\.(\w+_token)\b", source):
        if not name.startswith("add_") and name not in (
            "bos_token",
            "eos_token",
            "pad_token",
            "unk_token",
            "sep_token",
            "cls_token",
            "mask_token",
        ):
            named.setdefault(name, f"<|{name}|>")
    marks = dict.fromkeys([*_MARKS, *written, *named.values()])
    special = dict.fromkeys(["<s>", "</s>", "<pad>", *marks])
    vocabulary = {token: number for number, token in enumerate(special)}
    for letter in sorted(pre_tokenizers.ByteLevel.alphabet()):
        vocabulary.setdefault(letter, len(vocabulary))
    inner = Tokenizer(models.BPE(vocab=vocabulary, merges=[]))
    inner.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    inner.decoder = decoders.ByteLevel()
    fast: Any = PreTrainedTokenizerFast
    tokenizer = fast(
        tokenizer_object=inner, bos_token="<s>", eos_token="</s>", pad_token="<pad>", extra_special_tokens=named
    )
    tokenizer.add_special_tokens({"additional_special_tokens": list(marks)})
    return tokenizer


def _processor_class(model_type: str) -> Any:
    import transformers
    from transformers.models.auto import processing_auto

    from jisu.exporter.sources.image_processor import itself

    named = _PROCESSORS.get(model_type) or vars(processing_auto)["PROCESSOR_MAPPING_NAMES"].get(model_type)
    if not named:
        raise LookupError("transformers names no processor of its images")
    return itself(getattr(transformers, named))


def _image_class(model_type: str, processor_kind: Any) -> Any:
    """The class that prepares images, in its form for Pillow where there is one."""
    import transformers
    from transformers.models.auto import image_processing_auto, processing_auto

    images = vars(image_processing_auto)["IMAGE_PROCESSOR_MAPPING_NAMES"]
    named = images.get(model_type)
    if named is None:
        # That of a type with the same processor.
        processors = vars(processing_auto)["PROCESSOR_MAPPING_NAMES"]
        same = [one for one, name in processors.items() if name == processor_kind.__name__ and images.get(one)]
        named = images[same[0]] if same else None
    if named is None:
        raise LookupError("transformers names no class that prepares its images")
    name = named.get("pil") or named["torchvision"]
    kind = getattr(transformers, name, None)
    if kind is None or getattr(kind, "is_dummy", False):
        raise LookupError(f"its images are prepared by {name}, which needs a package that is not installed")
    return kind


def _processor(
    model_type: str, kind: Any, config: Any, tokenizer: Any, different: Mapping[str, Mapping[str, Any]]
) -> Any:
    from jisu.exporter.sources.image_processor import NO_VIDEOS, without_videos

    image_kind = _image_class(model_type, kind)
    vision = getattr(config, "vision_config", None) or config
    size, patch = (_edge(getattr(vision, name, None)) for name in ("image_size", "patch_size"))
    accepted = inspect.signature(kind.__init__).parameters
    settings: dict[str, Any] = {}
    known = dict(getattr(image_kind, "size", None) or {})
    if size and set(known) == {"height", "width"}:
        settings["size"] = {"height": size, "width": size}
    elif size and set(known) == {"shortest_edge"}:
        settings["size"] = {"shortest_edge": size}
    elif size and set(known) == {"longest_edge"}:
        settings["size"] = {"longest_edge": 4 * size if hasattr(image_kind, "max_image_size") else size}
    if size and getattr(image_kind, "crop_size", None):
        settings["crop_size"] = {"height": size, "width": size}
    if size and getattr(image_kind, "max_image_size", None):
        settings["max_image_size"] = {"longest_edge": size}
    if size and getattr(image_kind, "image_grid_pinpoints", None):
        settings["image_grid_pinpoints"] = [[size * high, size * wide] for high, wide in _CANVASES]
    if patch and isinstance(getattr(image_kind, "patch_size", None), int):
        settings["patch_size"] = patch
    if patch and isinstance(getattr(image_kind, "patch_size", None), dict):
        settings["patch_size"] = {"height": patch, "width": patch}
    merge = _edge(getattr(vision, "spatial_merge_size", None) or getattr(config, "spatial_merge_size", None))
    if isinstance(getattr(image_kind, "merge_size", None), int) and merge:
        settings["merge_size"] = merge
    if set(known) == {"shortest_edge", "longest_edge"} and patch:
        block = (patch * (merge or int(getattr(image_kind, "merge_size", 1)))) ** 2
        settings["size"] = {"shortest_edge": 4 * block, "longest_edge": 64 * block}
    tokens = (size // patch) ** 2 if size and patch else None
    ratio = getattr(config, "downsample_ratio", None)
    scale = getattr(config, "scale_factor", None)
    if tokens and isinstance(ratio, float):
        tokens = int(tokens * ratio**2)
    elif tokens and isinstance(scale, int):
        tokens //= scale**2
    pooled = getattr(config, "mm_tokens_per_image", None)
    offered = {
        "patch_size": patch,
        "spatial_merge_size": merge,
        "img_size": size,
        "downsample_factor": getattr(config, "downsample_factor", None),
        "image_seq_length": pooled or tokens,
        "image_seq_len": pooled or tokens,
        "num_image_tokens": tokens,
        "num_query_tokens": getattr(config, "num_query_tokens", None),
        "downsample_rate": getattr(config, "downsample_rate", None),
        "vision_feature_select_strategy": getattr(config, "vision_feature_select_strategy", "default"),
        "num_additional_image_tokens": int("clip" in str(getattr(vision, "model_type", ""))),
    }
    processor_settings = {name: value for name, value in offered.items() if value is not None and name in accepted}
    settings |= different.get("images", {})
    processor_settings |= different.get("processor", {})
    with without_videos():
        images_part = image_kind(**settings)
        if tokens:
            images_part.image_seq_length = tokens  # some processors ask for it
        parts = {"image_processor": images_part, "tokenizer": tokenizer}
        listed = [parts.get(name, NO_VIDEOS if "video" in name else None) for name in kind.get_attributes()]
        return kind(*listed, **processor_settings)


_CANVASES = ((1, 2), (2, 1), (2, 2), (3, 1), (1, 3))


def _edge(value: Any) -> int | None:
    first = value[0] if isinstance(value, (list, tuple)) else value
    return first if isinstance(first, int) else None


def _image_token(processor: Any) -> int:
    """The token that most of an image becomes."""
    import collections

    import numpy as np

    from jisu.exporter.contract.errors import JisuError
    from jisu.exporter.sources.image_processor import process_image

    try:
        text = process_image(processor, np.zeros((64, 64, 3), np.uint8)).text
        ids = processor.tokenizer.encode(text, add_special_tokens=False)
        ids = [
            token
            for token in ids
            if token < len(processor.tokenizer) and token in processor.tokenizer.added_tokens_decoder
        ]
        return int(collections.Counter(ids).most_common(1)[0][0])
    except (JisuError, IndexError):
        token = getattr(processor, "image_token_id", None)
        name = str(getattr(processor, "image_token", "<image>"))
        return int(token if isinstance(token, int) else processor.tokenizer.convert_tokens_to_ids(name))
