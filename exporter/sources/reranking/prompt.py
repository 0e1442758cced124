"""Makes a prompt of slots: from a chat template, which is a program, from a prompt that has a name, or a user's text.

A template is rendered with marks in the places of the texts. Only one that writes each of them once, and the same
around them whatever they are, becomes a prompt; any other is refused.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.rerank_prompt import DOCUMENT, INSTRUCTION, QUERY, SLOTS, RerankPrompt, split_slots
from jisu.exporter.sources.reranking.description import Reranking
from jisu.exporter.sources.reranking.named_prompts import NAMED_PROMPTS, NamedPrompt
from jisu.exporter.sources.reranking.options import RerankOptions

# Two sets of words that no template knows. The message of a pair's two texts is of the role of their names.
_MARKS: tuple[dict[str, str], ...] = tuple(
    {slot: f"{letter}{number}j7{slot}q" for slot, letter in zip(SLOTS, "xyz", strict=True)} for number in (1, 23)
)
_CONTENT = "w4j7contentq"


def make_prompt(reranking: Reranking, tokenizer: Any | None) -> RerankPrompt | None:
    """The prompt of a reranker; None where a pair is joined by the tokenizer's own rules.

    Raises:
        InputError: there is no tokenizer or template that it needs, or one that cannot be written with slots.
    """
    if tokenizer is None:
        raise InputError(
            f"{reranking.folder} has no tokenizer, which a reranker's prompt needs",
            received="no file of a tokenizer",
            allowed="tokenizer.json beside the weights",
            fix="Add it.",
        )
    if reranking.options is not None:
        return _of_options(reranking.options, reranking, tokenizer)
    if not reranking.templated:
        if reranking.instruction:
            raise InputError(
                f"{reranking.folder} has a default prompt without a chat template that has a place for it",
                received=f"prompt {reranking.instruction!r:.60}",
                allowed="a chat template with the roles query and document",
                fix="Give the whole prompt with --rerank-prompt FILE.",
            )
        return None
    return _of_template(reranking, _needed(_template(tokenizer), reranking), tokenizer)


def _of_template(reranking: Reranking, template: str, tokenizer: Any) -> RerankPrompt:
    def render(texts: Mapping[str, str]) -> str:
        roles = [("system", texts.get(INSTRUCTION)), (QUERY, texts[QUERY]), (DOCUMENT, texts[DOCUMENT])]
        return _render(
            template, tokenizer, [(role, text) for role, text in roles if text is not None], reranking=reranking
        )

    def slotted(slots: Sequence[str]) -> str:
        texts = [_with_slots(render({slot: marks[slot] for slot in slots}), marks, slots) for marks in _MARKS]
        if texts[0] is None or texts[0] != texts[1]:
            raise _no_slots(reranking, ", ".join(slots))
        return texts[0]

    bare = slotted((QUERY, DOCUMENT))
    try:
        instructed = slotted(SLOTS)
    except InputError:
        if reranking.instruction:
            raise
        instructed = ""  # a template without a place for it
    spaced = {slot: f" {_MARKS[0][slot]} " for slot in (QUERY, DOCUMENT)}
    if reranking.instruction:
        bare = instructed.replace(f"{{{INSTRUCTION}}}", reranking.instruction)
    return RerankPrompt(
        pieces=(bare,),
        instructed=(instructed,) if instructed else (),
        trims=not all(text in render(spaced) for text in spaced.values()),
    )


def _with_slots(text: str, marks: Mapping[str, str], slots: Sequence[str]) -> str | None:
    """A rendering with slots where its marks are; None unless each is there once and nothing looks like a slot."""
    if any(name is not None for name, _ in split_slots(text)):
        return None
    for slot in slots:
        if text.count(marks[slot]) != 1:
            return None
        text = text.replace(marks[slot], f"{{{slot}}}")
    return text


def _of_options(options: RerankOptions, reranking: Reranking, tokenizer: Any) -> RerankPrompt:
    named = NAMED_PROMPTS.get(options.prompt)
    if named is None:
        return _of_text(options.prompt, tokenizer)
    around = ("", "")
    if named.chats:
        template = _needed(_template(tokenizer), reranking)
        messages = [*([("system", named.system)] if named.system else []), ("user", _CONTENT)]
        text = _render(template, tokenizer, messages, asks=True, variables={"enable_thinking": False})
        if text.count(_CONTENT) != 1:
            raise _no_slots(reranking, "the message")
        before, _, after = text.partition(_CONTENT)
        around = (before, after)
    else:
        around = (_beginning(tokenizer), "")
    pieces = named.pieces or _filled(named)
    return RerankPrompt(pieces=_surrounded(pieces, around), instructed=_surrounded(named.instructed, around))


def _of_text(text: str, tokenizer: Any) -> RerankPrompt:
    """A user's own text; what the tokenizer begins every text with goes before it, unless it is there."""
    beginning = _beginning(tokenizer)
    pieces = (text if text.startswith(beginning) else beginning + text,)
    if f"{{{INSTRUCTION}}}" not in text:
        return RerankPrompt(pieces=pieces)
    return RerankPrompt(pieces=tuple(piece.replace(f"{{{INSTRUCTION}}}", "") for piece in pieces), instructed=pieces)


def _filled(named: NamedPrompt) -> tuple[str, ...]:
    return tuple(piece.replace(f"{{{INSTRUCTION}}}", named.instruction) for piece in named.instructed)


def _surrounded(pieces: Sequence[str], around: tuple[str, str]) -> tuple[str, ...]:
    return tuple(piece for piece in (around[0], *pieces, around[1]) if piece)


def _beginning(tokenizer: Any) -> str:
    """The special tokens that the tokenizer puts before every text, as they are written."""
    with_special, without = tokenizer("a")["input_ids"], tokenizer("a", add_special_tokens=False)["input_ids"]
    for start in range(len(with_special)):
        if without and with_special[start : start + len(without)] == without:
            return "".join(tokenizer.convert_ids_to_tokens(with_special[:start]))
    return ""


def _template(tokenizer: Any) -> str | None:
    template = getattr(tokenizer, "chat_template", None)
    if isinstance(template, dict):
        template = template.get("default")
    return template if isinstance(template, str) and template else None


def _needed(template: str | None, reranking: Reranking) -> str:
    if template is None:
        raise InputError(
            f"{reranking.folder} has no chat template, which its prompt needs",
            received="a tokenizer without a chat_template",
            allowed="a tokenizer with one, or a prompt without messages",
            fix="Give the whole prompt with --rerank-prompt FILE.",
        )
    return template


def _render(
    template: str,
    tokenizer: Any,
    messages: Sequence[tuple[str, str]],
    *,
    reranking: Reranking | None = None,
    asks: bool = False,
    variables: Mapping[str, Any] | None = None,
) -> str:
    from jisu.runtimes.chat.chat_template import ChatTemplate

    in_parts = reranking is not None and reranking.in_parts
    special = {name: text for name, text in tokenizer.special_tokens_map.items() if isinstance(text, str)}
    listed = [
        {"role": role, "content": [{"type": "text", "text": text}] if in_parts else text} for role, text in messages
    ]
    return ChatTemplate(template, special_tokens=special).write(
        listed,
        asks=asks if reranking is None else reranking.asks,
        variables=variables or ({} if reranking is None else reranking.variables),
    )


def _no_slots(reranking: Reranking, slots: str) -> InputError:
    return InputError(
        f"The chat template of {reranking.folder} does not write a query and a document as they are",
        received=f"a prompt without one place each for {slots}",
        allowed="a template that writes each message of the roles query and document once",
        fix="Give the whole prompt with --rerank-prompt FILE, beside --yes-token.",
    )
