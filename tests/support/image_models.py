"""Tiny models of images and texts with random weights, each with its processor, written in a fraction of a second."""

from __future__ import annotations

import contextlib
import json
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from tests.support.models import tiny_tokenizer

VOCAB = 448
_TEXT: dict[str, Any] = {
    "hidden_size": 64,
    "intermediate_size": 64,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "vocab_size": VOCAB,
    "max_position_embeddings": 1024,
    "bos_token_id": 0,
    "eos_token_id": 1,
    "pad_token_id": 2,
}
_VISION: dict[str, Any] = {
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "image_size": 28,
    "patch_size": 7,
}
_TEMPLATE = (
    "{% for message in messages %}<s>{{ message['role'] }}\n{% if message['content'] is string %}"
    "{{ message['content'] }}{% else %}{% for part in message['content'] %}{% if part['type'] == 'image' %}MARK"
    "{% else %}{{ part['text'] }}{% endif %}{% endfor %}{% endif %}</s>\n{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant\n{% endif %}"
)
# Such as many models of images have: a content that is a text is passed over without a word.
PARTS_ALONE = (
    "<s>{% for message in messages %}{{ message['role'] | capitalize }}"
    "{% if message['content'][0]['type'] == 'image' %}:{% else %}: {% endif %}{% for part in message['content'] %}"
    "{% if part['type'] == 'text' %}{{ part['text'] }}{% elif part['type'] == 'image' %}<image>{% endif %}{% endfor %}"
    "</s>\n{% endfor %}{% if add_generation_prompt %}Assistant:{% endif %}"
)


def noise(height: int, width: int, *, seed: int = 0) -> npt.NDArray[np.uint8]:
    """An image in which no two parts are alike, uint8 [height, width, 3]."""
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)


def write_image_model(folder: Path, family: str) -> Path:
    """Write a model of a family that `FAMILIES` names; returns its folder."""
    model, processor = FAMILIES[family]()
    folder.mkdir(parents=True)
    model.save_pretrained(str(folder))
    _save_processor(processor, folder)
    return folder


def _save_processor(processor: Any, folder: Path) -> None:
    """Without what would prepare videos, as the checkpoint of a model of images has it."""
    processor.tokenizer.save_pretrained(str(folder))
    processor.image_processor.save_pretrained(str(folder))
    kept = ("image_seq_len", "image_seq_length", "patch_size", "num_additional_image_tokens", "spatial_merge_size")
    settings = {name: getattr(processor, name) for name in kept if hasattr(processor, name)}
    if hasattr(processor, "vision_feature_select_strategy"):
        settings["vision_feature_select_strategy"] = processor.vision_feature_select_strategy
    record = {"processor_class": type(processor).__name__, **settings}
    (folder / "processor_config.json").write_text(json.dumps(record), encoding="utf-8")


def _tokenizer(*marks: str, mark: str, named: dict[str, str] | None = None) -> Any:
    tokenizer = tiny_tokenizer()
    if named:
        tokenizer = type(tokenizer)(
            tokenizer_object=tokenizer.backend_tokenizer,
            bos_token="<s>",
            eos_token="</s>",
            pad_token="<pad>",
            extra_special_tokens=named,
        )
    if not named:
        tokenizer.add_special_tokens({"additional_special_tokens": list(marks)})
    tokenizer.chat_template = _TEMPLATE.replace("MARK", mark)
    return tokenizer


def random_model(kind: Any, config: Any) -> Any:
    import torch

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = kind(config).eval()
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=parameter.shape[-1] ** -0.5)
                else:
                    parameter.add_(torch.randn_like(parameter), alpha=0.1)
    return model


def _llava() -> tuple[Any, Any]:
    import transformers
    from transformers.models.llava.image_processing_pil_llava import LlavaImageProcessorPil

    tokenizer = _tokenizer("<image>", mark="<image>")
    processor = transformers.LlavaProcessor(
        image_processor=LlavaImageProcessorPil(size={"shortest_edge": 28}, crop_size={"height": 28, "width": 28}),
        tokenizer=tokenizer,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    config = transformers.LlavaConfig(
        text_config={"model_type": "llama", **_TEXT},
        vision_config={"model_type": "clip_vision_model", **_VISION},
        image_token_id=processor.image_token_id,
        image_seq_length=16,
    )
    return random_model(transformers.LlavaForConditionalGeneration, config), processor


def _vipllava() -> tuple[Any, Any]:
    """Features of several layers side by side."""
    import transformers

    _, processor = _llava()
    config = transformers.VipLlavaConfig(
        text_config={"model_type": "llama", **_TEXT},
        vision_config={"model_type": "clip_vision_model", **_VISION},
        image_token_id=processor.image_token_id,
        vision_feature_layers=[-2, -1],
        image_seq_length=16,
    )
    return random_model(transformers.VipLlavaForConditionalGeneration, config), processor


def _idefics3(family: str = "Idefics3") -> tuple[Any, Any]:
    import transformers
    from transformers.models.idefics3.image_processing_pil_idefics3 import Idefics3ImageProcessorPil

    marks = ["<fake_token_around_image>", "<image>", "<end_of_utterance>", "<global-img>"]
    marks += [f"<row_{row}_col_{column}>" for row in range(1, 5) for column in range(1, 5)]
    tokenizer = _tokenizer(*marks, mark="<image>")
    tokenizer.chat_template = PARTS_ALONE
    processor = transformers.Idefics3Processor(
        image_processor=Idefics3ImageProcessorPil(size={"longest_edge": 112}, max_image_size={"longest_edge": 28}),
        tokenizer=tokenizer,
        image_seq_len=4,
        chat_template=tokenizer.chat_template,
    )
    config = getattr(transformers, f"{family}Config")(
        text_config={"model_type": "llama", **_TEXT},
        vision_config=_VISION,
        image_token_id=processor.image_token_id,
        scale_factor=2,
        pad_token_id=2,
    )
    return random_model(getattr(transformers, f"{family}ForConditionalGeneration"), config), processor


def _qwen(family: str, **vision: Any) -> tuple[Any, Any]:
    import transformers
    from transformers.models.qwen2_vl.image_processing_pil_qwen2_vl import Qwen2VLImageProcessorPil

    from jisu.exporter.sources.image_processor import without_videos

    marks = ("<|vision_start|>", "<|vision_end|>", "<|image_pad|>", "<|video_pad|>")
    tokenizer = _tokenizer(*marks, mark="<|vision_start|><|image_pad|><|vision_end|>")
    images = Qwen2VLImageProcessorPil(patch_size=4, merge_size=2, size={"shortest_edge": 256, "longest_edge": 4096})
    with without_videos():
        kind = getattr(transformers, f"{family}Processor")
        processor = kind(images, tokenizer, None, chat_template=tokenizer.chat_template)
    rope = {"rope_type": "default", "rope_theta": 10_000.0, "mrope_section": [2, 3, 3]}
    config = getattr(transformers, f"{family}Config")(
        text_config={**_TEXT, "rope_parameters": rope},
        vision_config={"depth": 3, "num_heads": 4, "patch_size": 4, "spatial_merge_size": 2, **vision},
        image_token_id=tokenizer.convert_tokens_to_ids("<|image_pad|>"),
        video_token_id=tokenizer.convert_tokens_to_ids("<|video_pad|>"),
        vision_start_token_id=tokenizer.convert_tokens_to_ids("<|vision_start|>"),
        vision_end_token_id=tokenizer.convert_tokens_to_ids("<|vision_end|>"),
    )
    return random_model(getattr(transformers, f"{family}ForConditionalGeneration"), config), processor


def _internvl() -> tuple[Any, Any]:
    import transformers
    from transformers.models.got_ocr2.image_processing_pil_got_ocr2 import GotOcr2ImageProcessorPil

    from jisu.exporter.sources.image_processor import without_videos

    named = {"start_image_token": "<img>", "end_image_token": "</img>", "context_image_token": "<IMG_CONTEXT>"}
    named["video_token"] = "<video>"
    tokenizer = _tokenizer(*named.values(), mark="<IMG_CONTEXT>", named=named)
    images = GotOcr2ImageProcessorPil(size={"height": 28, "width": 28}, max_patches=6)
    with without_videos():
        processor = transformers.InternVLProcessor(
            images, tokenizer, None, image_seq_length=4, chat_template=tokenizer.chat_template
        )
    config = transformers.InternVLConfig(
        text_config={"model_type": "qwen2", **_TEXT},
        vision_config={**_VISION, "image_size": (28, 28), "patch_size": (7, 7)},
        image_token_id=processor.image_token_id,
        image_seq_length=4,
    )
    return random_model(transformers.InternVLForConditionalGeneration, config), processor


def _llava_next() -> tuple[Any, Any]:
    import transformers
    from transformers.models.llava_next.image_processing_pil_llava_next import LlavaNextImageProcessorPil

    tokenizer = _tokenizer("<image>", mark="<image>")
    canvases = [[28, 56], [56, 28], [56, 56], [84, 28], [28, 84]]
    edge = {"height": 28, "width": 28}
    images = LlavaNextImageProcessorPil(size={"shortest_edge": 28}, crop_size=edge, image_grid_pinpoints=canvases)
    processor = transformers.LlavaNextProcessor(
        image_processor=images,
        tokenizer=tokenizer,
        patch_size=7,
        vision_feature_select_strategy="default",
        num_additional_image_tokens=1,
        chat_template=tokenizer.chat_template,
    )
    config = transformers.LlavaNextConfig(
        text_config={"model_type": "llama", **_TEXT},
        vision_config={"model_type": "clip_vision_model", **_VISION},
        image_token_id=processor.image_token_id,
        image_grid_pinpoints=canvases,
        image_seq_length=16,
    )
    return random_model(transformers.LlavaNextForConditionalGeneration, config), processor


@contextlib.contextmanager
def torchvision_by_name() -> Iterator[None]:
    """Let modules be imported that import torchvision and use nothing of it here, where it is not installed."""
    import importlib.util

    if importlib.util.find_spec("torchvision") is not None:
        yield
        return
    names = [
        "torchvision",
        "torchvision.transforms",
        "torchvision.transforms.v2",
        "torchvision.transforms.v2.functional",
    ]
    made = {name: types.ModuleType(name) for name in names}
    for name, module in made.items():
        parent, _, last = name.rpartition(".")
        if parent:
            setattr(made[parent], last, module)
    sys.modules.update(made)
    try:
        yield
    finally:
        for name in made:
            sys.modules.pop(name, None)


def _mistral3() -> tuple[Any, Any]:
    import transformers
    from transformers.models.pixtral.image_processing_pil_pixtral import PixtralImageProcessorPil

    with torchvision_by_name():
        from transformers.models.pixtral.processing_pixtral import PixtralProcessor
    tokenizer = _tokenizer("[IMG]", "[IMG_BREAK]", "[IMG_END]", mark="[IMG]")
    images = PixtralImageProcessorPil(size={"longest_edge": 64}, patch_size={"height": 4, "width": 4})
    processor = PixtralProcessor(images, tokenizer, patch_size=4, spatial_merge_size=2)
    config = transformers.Mistral3Config(
        text_config={"model_type": "mistral", **_TEXT},
        vision_config={"model_type": "pixtral", **_VISION, "image_size": 64, "patch_size": 4, "head_dim": 8},
        image_token_id=processor.image_token_id,
        spatial_merge_size=2,
    )
    return random_model(transformers.Mistral3ForConditionalGeneration, config), processor


def _gemma3() -> tuple[Any, Any]:
    """The tokens of an image see each other, within a window that is smaller than an image."""
    import transformers
    from transformers.models.gemma3.image_processing_pil_gemma3 import Gemma3ImageProcessorPil

    named = {"boi_token": "<start_of_image>", "eoi_token": "<end_of_image>", "image_token": "<image_soft_token>"}
    tokenizer = _tokenizer(*named.values(), mark="<start_of_image>", named=named)
    processor = transformers.Gemma3Processor(
        Gemma3ImageProcessorPil(size={"height": 28, "width": 28}), tokenizer, image_seq_length=16
    )
    config = transformers.Gemma3Config(
        text_config={**_TEXT, "head_dim": 16, "sliding_window": 6},
        vision_config={"model_type": "siglip_vision_model", **_VISION},
        mm_tokens_per_image=16,
        image_token_id=tokenizer.convert_tokens_to_ids("<image_soft_token>"),
        boi_token_id=tokenizer.convert_tokens_to_ids("<start_of_image>"),
        eoi_token_id=tokenizer.convert_tokens_to_ids("<end_of_image>"),
    )
    return random_model(transformers.Gemma3ForConditionalGeneration, config), processor


def _paligemma(text_family: str = "gemma", **text_settings: Any) -> tuple[Any, Any]:
    """All tokens of a prompt see each other, with other words around a text than a chat template writes."""
    import transformers
    from transformers.models.siglip.image_processing_pil_siglip import SiglipImageProcessorPil

    tokenizer = _tokenizer("<image>", mark="<image>")
    images = SiglipImageProcessorPil(size={"height": 28, "width": 28})
    images.image_seq_length = 16
    tokenizer.chat_template = None
    processor = transformers.PaliGemmaProcessor(images, tokenizer)
    # It adds a thousand tokens for places and masks.
    text = {**_TEXT, "vocab_size": len(processor.tokenizer), "head_dim": 16, **text_settings}
    config = transformers.PaliGemmaConfig(
        text_config={"model_type": text_family, **text, "hidden_activation": "gelu_pytorch_tanh"},
        vision_config={"model_type": "siglip_vision_model", **_VISION, "projection_dim": 64},
        image_token_id=processor.image_token_id,
        projection_dim=64,
    )
    return random_model(transformers.PaliGemmaForConditionalGeneration, config), processor


FAMILIES: dict[str, Callable[[], tuple[Any, Any]]] = {
    "llava": _llava,
    "vipllava": _vipllava,
    "idefics3": _idefics3,
    "smolvlm": lambda: _idefics3("SmolVLM"),
    "internvl": _internvl,
    "llava_next": _llava_next,
    "mistral3": _mistral3,
    "qwen2_vl": lambda: _qwen("Qwen2VL", embed_dim=32, hidden_size=64),
    "qwen2_5_vl": lambda: _qwen(
        "Qwen2_5_VL",
        hidden_size=32,
        out_hidden_size=64,
        intermediate_size=48,
        window_size=16,
        fullatt_block_indexes=[1],
    ),
    "qwen3_vl": lambda: _qwen(
        "Qwen3VL",
        hidden_size=32,
        out_hidden_size=64,
        intermediate_size=48,
        num_position_embeddings=16,
        deepstack_visual_indexes=[0, 1],
    ),
    "gemma3": _gemma3,
    "paligemma": _paligemma,
    "paligemma2": lambda: _paligemma("gemma2", sliding_window=6),
}
