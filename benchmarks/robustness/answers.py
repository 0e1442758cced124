"""What a loaded checkpoint and an artifact answer: tokens, text, and the facts by which runtimes stop and count."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jisu.exporter.sources.source import Source

# The second is a long one, so that more of the model is asked.
PROMPTS = ("The capital of France is", "One two three four five six seven eight nine ten. " * 6)
NEW_TOKENS = 8
_CONVERSATION = ({"role": "user", "content": "What is the capital of France?"},)
# Texts with what tokenizers have rules for.
_TEXTS = (" two  blanks\n", "I'm 12345, ½ naïve e\u0301 中文 🙂", "</s><s> a<pad>")
_DIGITS = 3


def artifact_answers(folder: Path, *, verify_hashes: bool = True) -> list[Any]:
    """What an artifact answers, the most likely tokens; opened as users open it."""
    from jisu.exporter.contract.artifact import TEXT_TO_TEXT, read_artifact
    from jisu.runtimes import load

    kind = read_artifact(folder).manifest.model_kind
    with load(folder, threads=1, verify_hashes=verify_hashes) as engine:
        if kind == "text-classification":
            labels = engine.classify(list(PROMPTS))
            return [[one.label, round(one.probability, _DIGITS)] for one in labels]
        prompts = list(PROMPTS[:1]) if kind == TEXT_TO_TEXT else list(PROMPTS)
        results = engine.generate(prompts, max_new_tokens=NEW_TOKENS, temperature=0.0)
        return [[*map(int, result.token_ids), result.text] for result in results]


def checkpoint_answers(path: Path, **options: Any) -> dict[str, Any]:
    """``answers`` of a checkpoint as an export reads it, and the ``notes`` that a user is told."""
    from jisu.exporter.sources import load_source

    source = load_source(path, **options)
    return {"answers": _source_answers(source), "notes": [*source.notes, *source.account.notes()]}


def published_answers(path: Path, out: Path, **options: Any) -> list[Any]:
    """Export a checkpoint and ask what was published."""
    from jisu.exporter import export

    return artifact_answers(export(path, out, **options).folder)


def _source_answers(source: Source) -> list[Any]:
    facts = asdict(source.model)
    settings = source.generation_settings() if source.model_kind != "text-classification" else {}
    answers: list[Any] = [source.model_kind, facts, settings, *_tokenizer_answers(source.tokenizer)]
    ids = [_ids(source, prompt) for prompt in PROMPTS]
    return [*answers, *(_next_tokens(source, one[:128]) for one in ids)]


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


def _next_tokens(source: Source, ids: list[int]) -> list[Any]:
    """The most likely tokens after a prompt, or a classifier's numbers."""
    import torch

    from jisu.exporter.contract.artifact import TEXT_TO_TEXT
    from jisu.exporter.gate.reference import stock_attention

    limit = min(len(ids), (source.model.max_positions or len(ids)), source.model.max_source_positions or len(ids))
    tokens = torch.tensor([ids[: max(1, limit)]])
    with stock_attention(source.module) as module:
        if source.model_kind == "text-classification":
            return [round(float(one), _DIGITS) for one in module(tokens).logits[0]]
        more: dict[str, Any] = {"use_cache": False}
        if source.model_kind == TEXT_TO_TEXT:
            more["decoder_input_ids"] = torch.tensor([[source.model.decoder_start or 0, 3, 4]])
        return [int(one) for one in module(input_ids=tokens, **more).logits[0].argmax(-1)]
