"""Two tiny real tokenizers and a backend that says what a test wants it to say."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from tokenizers import AddedToken, Tokenizer, decoders, models, pre_tokenizers, processors

from jisu.exporter.contract.artifact import Artifact, ModelFacts
from tests.runtimes.tiny_models import ListBackend, manifest

IM_START, IM_END = "<|im_start|>", "<|im_end|>"
TEMPLATE = (
    "{% for message in messages %}<|im_start|>{{ message['role'] }}\n{{ message['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)


def byte_level_tokenizer() -> Tokenizer:
    """Byte-level BPE: one token for each byte and a few merges, one of which joins the halves of two characters."""
    alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
    vocab = {character: index for index, character in enumerate(alphabet)}
    merges = [("h", "e"), ("l", "l"), ("he", "ll"), ("Ġ", "w"), ("ł", "å")]
    for left, right in merges:
        vocab[left + right] = len(vocab)
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens([AddedToken(IM_START, special=True), AddedToken(IM_END, special=True)])
    return tokenizer


def metaspace_tokenizer() -> Tokenizer:
    """SentencePiece-like: ▁ for spaces, a first space that is dropped, bytes for what is not in the vocabulary."""
    pieces = [
        "<unk>",
        "<s>",
        "</s>",
        *(f"<0x{byte:02X}>" for byte in range(256)),
        "▁",
        "▁hello",
        "▁world",
        "!",
        "a",
        "b",
    ]
    vocab = {piece: index for index, piece in enumerate(pieces)}
    merges = []
    for word in ("▁hello", "▁world"):
        for end in range(2, len(word) + 1):
            vocab.setdefault(word[end - 1], len(vocab))
            vocab.setdefault(word[:end], len(vocab))
            merges.append((word[: end - 1], word[end - 1]))
    tokenizer = Tokenizer(models.BPE(vocab=vocab, merges=merges, unk_token="<unk>", byte_fallback=True))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.decoder = decoders.Sequence(
        [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    )
    tokenizer.add_special_tokens([AddedToken("<s>", special=True), AddedToken("</s>", special=True)])
    tokenizer.post_processor = processors.TemplateProcessing(single="<s> $A", special_tokens=[("<s>", 1)])
    return tokenizer


class ScriptedBackend(ListBackend):
    """Gives the next token of ``script(tokens so far)`` the logit 10 and all others 0."""

    def __init__(self, vocab_size: int, script: Callable[[list[int]], int], max_positions: int | None = 512) -> None:
        super().__init__()
        self.vocab_size = vocab_size
        self.max_positions = max_positions
        self._script = script

    def logits(self, tokens: list[int]) -> np.ndarray:
        out = np.zeros((len(tokens), self.vocab_size), np.float32)
        for end in range(1, len(tokens) + 1):
            out[end - 1, self._script(tokens[:end])] = 10
        return out


def says(answer: Sequence[int], prompt_length: int, end: int) -> Callable[[list[int]], int]:
    """A script that says ``answer`` after a prompt of that length, then the end token."""
    return lambda tokens: ([*answer, end][len(tokens) - prompt_length :] or [end])[0]


def text_artifact(folder: Path, *, eos: Sequence[int], template: str | None = TEMPLATE, **facts: Any) -> Artifact:
    """A folder with the byte-level tokenizer and a template; its graph is not needed."""
    folder.mkdir(parents=True, exist_ok=True)
    tokenizer = byte_level_tokenizer()
    tokenizer.save(str(folder / "tokenizer.json"))
    config = {"eos_token": {"content": IM_END}, "bos_token": IM_START, "pad_token": None}
    (folder / "tokenizer_config.json").write_text(json.dumps(config), encoding="utf-8")
    if template is not None:
        (folder / "chat_template.jinja").write_text(template, encoding="utf-8")
    (folder / "model.onnx").write_bytes(b"")
    base = manifest("ort-cpu")
    model = ModelFacts(
        **{
            **base.model.__dict__,
            "vocab_size": tokenizer.get_vocab_size(),
            "max_positions": 512,
            "eos": tuple(eos),
            **facts,
        }
    )
    logits = replace(base.signature.outputs[0], dims=("B", "K", model.vocab_size))
    signature = replace(base.signature, outputs=(logits,))
    return Artifact(folder=folder, manifest=replace(base, model=model, signature=signature))
