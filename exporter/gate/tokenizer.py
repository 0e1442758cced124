"""Whether the artifact's tokenizer and chat template say what the source's do: same ids, same text, same prompt."""

from __future__ import annotations

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
    # What users will run, on the files that they will have.
    from runtimes.chat.chat_template import open_chat_template

    template = open_chat_template(folder)
    if not getattr(source, "chat_template", None):
        differing = ["The artifact has a chat template, the source has none."] if template is not None else []
        return _check(name, differing, "The source has none.")
    if template is None:
        return _check(name, [f"The source has a chat template, {folder.name} has none."], "")
    differing = []
    for messages in MESSAGES:
        conversation = [dict(message) for message in messages]
        # Ours first: it is bounded, and what ends in it ends in the source's as well when both are equal.
        mine = template.render(conversation)
        theirs = source.apply_chat_template(conversation, tokenize=False, add_generation_prompt=True)
        if mine != theirs:
            differing.append(f"A conversation of {len(messages)} messages becomes {mine!r} instead of {theirs!r}.")
    return _check(name, differing, f"Same prompt as the source for {len(MESSAGES)} conversations.")


def _check(name: str, differing: list[str], fine: str) -> Check:
    return Check(
        name=name,
        passed=not differing,
        value=len(differing),
        limit=0,
        unit=UNIT,
        detail=differing[0] if differing else fine,
    )
