"""The tokens whose logits are the score, by their texts or by the ids that a folder states."""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.reranking.description import Reranking
from jisu.exporter.sources.reranking.named_prompts import NAMED_PROMPTS


def answer_tokens(reranking: Reranking, tokenizer: Any, *, rows: int) -> tuple[int, ...]:
    """The id of "yes", and that of "no" where there is one.

    Args:
        rows: token ids that the model has.

    Raises:
        InputError: a text that is not one token, an id beyond the model's, or the same token twice.
    """
    options = reranking.options
    if options is None:
        assert reranking.yes is not None, "a folder that is read as one that scores by logits names a token"
        ids = [reranking.yes, *([] if reranking.no is None else [reranking.no])]
    else:
        named = NAMED_PROMPTS.get(options.prompt)
        texts = (options.yes, options.no) if options.yes is not None or named is None else (named.yes, named.no)
        ids = [_token(tokenizer, text, reranking) for text in texts if text is not None]
    if max(ids) >= rows or len(set(ids)) < len(ids):
        raise InputError(
            f"The tokens that answer the prompt of {reranking.folder} cannot be told apart or have no row",
            received=f"ids {', '.join(map(str, ids))}",
            allowed=f"different ids below {rows}",
            fix="Correct the tokens, or use the tokenizer that belongs to this model.",
        )
    return tuple(ids)


def _token(tokenizer: Any, text: str, reranking: Reranking) -> int:
    """An entry of the vocabulary as it is spelled there, or what the text becomes if that is one token."""
    known: int | None = tokenizer.get_vocab().get(text)
    if known is not None:
        return known
    ids = tokenizer(text, add_special_tokens=False)["input_ids"]
    if len(ids) == 1 and ids[0] != tokenizer.unk_token_id:
        return int(ids[0])
    raise InputError(
        f"{text!r} is not one token of {reranking.folder}",
        received=f"{len(ids)} tokens" if len(ids) != 1 else "a text that the tokenizer does not know",
        allowed="a text that is one token, which the model answers with",
        fix="Name the model's own with --yes-token and --no-token; its card says which.",
    )
