"""What a loaded checkpoint answers: tokens, text, and the facts by which runtimes stop and count."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from jisu.benchmarks.robustness.questions import PROMPTS, picture, recording, rounded

if TYPE_CHECKING:
    from jisu.exporter.sources.source import Source

_CONVERSATION = ({"role": "user", "content": "What is the capital of France?"},)
# Texts with what tokenizers have rules for.
_TEXTS = (" two  blanks\n", "I'm 12345, ½ naïve e\u0301 中文 🙂", "</s><s> a<pad>")
_LONGEST = 128


def source_answers(source: Source) -> list[Any]:
    """What JSON can hold of a source: its kind, its facts, its tokenizer's and its model's answers."""
    from jisu.exporter.contract.artifact import ONE_PASS_KINDS

    reads = source.model_kind in ONE_PASS_KINDS
    settings = {} if reads else source.generation_settings()
    answers: list[Any] = [source.model_kind, asdict(source.model), settings, *_tokenizer_answers(source.tokenizer)]
    for prompt in PROMPTS:
        ids = _ids(source, prompt)[:_LONGEST]
        answers.append(_read(source, ids) if reads else _next_tokens(source, ids))
    if source.vision is not None:
        answers.append(_seen(source))
    return answers


def _tokenizer_answers(tokenizer: Any) -> list[Any]:
    if tokenizer is None:
        return []
    ids = [list(tokenizer.encode(text)) for text in _TEXTS]
    rendered = None
    if tokenizer.chat_template:
        try:
            rendered = tokenizer.apply_chat_template(
                [dict(one) for one in _CONVERSATION], tokenize=False, add_generation_prompt=True
            )
        except Exception as error:  # noqa: BLE001 - whatever a template of somebody's does; the gate renders it bounded
            rendered = type(error).__name__
    return [*ids, *(tokenizer.decode(one) for one in ids), rendered]


def _ids(source: Source, prompt: str) -> list[int]:
    if source.tokenizer is None:
        return [number % source.model.vocab_size for number in range(3, 3 + len(prompt))]
    return [one % source.model.vocab_size for one in source.tokenizer.encode(prompt)] or [0]


def _positions(source: Source, ids: list[int]) -> list[int]:
    limit = min(len(ids), (source.model.max_positions or len(ids)), source.model.max_source_positions or len(ids))
    return ids[: max(1, limit)]


def _read(source: Source, ids: list[int]) -> list[Any]:
    """The numbers that a model gives for a whole text."""
    import numpy as np

    from jisu.exporter.gate.one_pass_reference import one_pass_reference

    return rounded(one_pass_reference(source).logits(np.array(_positions(source, ids), np.int64)))


def _next_tokens(source: Source, ids: list[int]) -> list[int]:
    """The most likely tokens after a prompt, after a recording, or after a source text."""
    import torch

    from jisu.exporter.contract.artifact import TEXT_TO_TEXT
    from jisu.exporter.gate.reference import stock_attention

    tokens = torch.tensor([_positions(source, ids)])
    inputs: dict[str, Any] = {"input_ids": tokens}
    if source.audio is not None:
        settings = source.audio.settings
        heard = source.audio.features(recording(settings.sampling_rate))
        inputs = {settings.input_name: torch.from_numpy(heard), "decoder_input_ids": tokens}
    elif source.model_kind == TEXT_TO_TEXT:
        inputs["decoder_input_ids"] = torch.tensor([[source.model.decoder_start or 0, 3, 4]])
    with stock_attention(source.module) as module:
        return [int(one) for one in module(**inputs, use_cache=False).logits[0].argmax(-1)]


def _seen(source: Source) -> list[int]:
    from jisu.exporter.gate.images import image_reference

    assert source.vision is not None
    text = f"A picture: {source.vision.settings.mark} What is in it?"
    return [int(one) for one in image_reference(source.vision).logits(text, [picture()], [3]).argmax(-1)]
