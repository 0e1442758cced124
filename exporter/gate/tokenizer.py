"""Whether the artifact's tokenizer and chat template say what the source's do: same ids, same text, same prompt."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from exporter.gate.result import Check

TEXTS = (
    "The quick brown fox jumps over the lazy dog.",
    "机器学习模型的推理速度很重要，但质量更重要！",
    "family 👨‍👩‍👧‍👦, flag 🇫🇷, skin 👍🏽, plain 🙂",
    "def f(x):\n\treturn {'a': [1, 2], \"b\": x ** 2}  # comment\n",
    "  leading and trailing spaces  ",
    "\n\nnew lines\r\nand\ttabs\n",
    "Ça coûte 1 234,56 € à l'été; naïve façade, e\u0301 and é",
    "مرحبا بالعالم, שלום, Привет, こんにちは, 안녕하세요",
    " ",
    "1234567890 3.14159 0x1F 1e-9",
)
MESSAGES: tuple[tuple[dict[str, str], ...], ...] = (
    ({"role": "user", "content": "What is the capital of France?"},),
    (
        {"role": "user", "content": "Hello, 你好 🙂"},
        {"role": "assistant", "content": "Hello! How can I help?"},
        {"role": "user", "content": "  Sum these:\n1, 2\n"},
    ),
)
CHAT_TEMPLATE = "chat_template.jinja"
UNIT = "texts that differ"


def check_tokenizer(source_tokenizer: Any, artifact_folder: Path, texts: Sequence[str] = TEXTS) -> list[Check]:
    """Three checks: ids of texts, text of ids, and the rendered chat template.

    Args:
        source_tokenizer: the source's transformers tokenizer.
        artifact_folder: the folder that holds ``tokenizer.json`` and the chat template.
        texts: besides these, every special token of the source is tried within a sentence.
    """
    from tokenizers import Tokenizer

    ours = Tokenizer.from_file(str(artifact_folder / "tokenizer.json"))
    # A tokenizer.json may ask for truncation or padding; a runtime must not let it.
    ours.no_truncation()
    ours.no_padding()
    specials = [f"before {token} after{token}" for token in source_tokenizer.all_special_tokens]
    texts = [*texts, *specials]
    return [
        _check_ids(source_tokenizer, ours, texts),
        _check_round_trip(source_tokenizer, ours, texts),
        _check_chat_template(source_tokenizer, artifact_folder),
    ]


def _check_ids(source: Any, ours: Any, texts: Sequence[str]) -> Check:
    differing = []
    for text in texts:
        for special in (True, False):
            theirs = list(source.encode(text, add_special_tokens=special))
            mine = list(ours.encode(text, add_special_tokens=special).ids)
            if mine != theirs:
                at = next((i for i, (a, b) in enumerate(zip(mine, theirs, strict=False)) if a != b), None)
                at = min(len(mine), len(theirs)) if at is None else at
                differing.append(
                    f"{text!r} differs first at token {at}: {mine[at : at + 3]} where the source has "
                    f"{theirs[at : at + 3]} ({len(mine)} tokens instead of {len(theirs)})."
                )
                break
    return _check("tokenizer", differing, f"Same ids as the source for {len(texts)} texts.")


def _check_round_trip(source: Any, ours: Any, texts: Sequence[str]) -> Check:
    differing = []
    for text in texts:
        ids = list(source.encode(text))
        theirs = source.decode(ids, skip_special_tokens=False, clean_up_tokenization_spaces=False)
        mine = ours.decode(ids, skip_special_tokens=False)
        if mine != theirs:
            differing.append(f"{text!r} comes back as {mine!r} where the source gives {theirs!r}.")
    return _check("detokenizer", differing, f"Same text as the source for the ids of {len(texts)} texts.")


def _check_chat_template(source: Any, folder: Path) -> Check:
    name = "chat-template"
    template = _template(folder)
    if not getattr(source, "chat_template", None):
        differing = ["The artifact has a chat template, the source has none."] if template is not None else []
        return _check(name, differing, "The source has none.")
    if template is None:
        return _check(name, [f"The source has a chat template, {folder.name} has none."], "")
    special = _special_tokens(folder)
    differing = []
    for messages in MESSAGES:
        conversation = [dict(message) for message in messages]
        theirs = source.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        mine = _render(template, conversation, special)
        if mine != theirs:
            differing.append(f"A conversation of {len(messages)} messages becomes {mine!r} instead of {theirs!r}.")
    return _check(name, differing, f"Same prompt as the source for {len(MESSAGES)} conversations.")


def _template(folder: Path) -> str | None:
    """The template from its own file, or from ``tokenizer_config.json`` where older folders keep it."""
    own = folder / CHAT_TEMPLATE
    if own.is_file():
        return own.read_text(encoding="utf-8")
    template = _tokenizer_config(folder).get("chat_template")
    return template if isinstance(template, str) else None


def _render(template: str, messages: list[dict[str, str]], special_tokens: dict[str, str]) -> str:
    # The environment that chat templates are written for: trimmed blocks, loop controls, and no way out of the sandbox.
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
    )
    compiled = environment.from_string(template)
    return compiled.render(messages=messages, add_generation_prompt=True, tools=None, documents=None, **special_tokens)


def _special_tokens(folder: Path) -> dict[str, str]:
    """``eos_token`` and the like from the artifact's own configuration, since that is what a runtime has."""
    special = {}
    for name, value in _tokenizer_config(folder).items():
        text = value.get("content") if isinstance(value, dict) else value
        if name.endswith("_token") and isinstance(text, str):
            special[name] = text
    return special


def _tokenizer_config(folder: Path) -> dict[str, Any]:
    path = folder / "tokenizer_config.json"
    if not path.is_file():
        return {}
    config: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    return config


def _check(name: str, differing: list[str], fine: str) -> Check:
    return Check(
        name=name,
        passed=not differing,
        value=len(differing),
        limit=0,
        unit=UNIT,
        detail=differing[0] if differing else fine,
    )
