"""A query and documents in the prompt of a reranker -> token ids: the prompt writes control tokens, the texts none.

Only the document is ever cut off: what stands behind it in the prompt is what the model answers.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown
from jisu.exporter.contract.rerank_prompt import DOCUMENT, INSTRUCTION, QUERY, RerankPrompt, split_slots
from jisu.runtimes.chat.control_tokens import ControlTokens
from jisu.runtimes.chat.data_marks import TracedPrompt

# Parts of a piece: a text, and whether it is data.
_Parts = list[tuple[str, bool]]


class RerankRows:
    """Makes rows for one query.

    Args:
        controls: of the model's tokenizer.
        instruction: None leaves it to the model.
        limit: most tokens of a row; None for any number.

    Raises:
        InputError: an instruction where the model takes none, or a text that is not Unicode.
    """

    def __init__(
        self, prompt: RerankPrompt, controls: ControlTokens, query: str, *, instruction: str | None, limit: int | None
    ) -> None:
        self._controls, self._limit, self._trims = controls, limit, prompt.trims
        texts = {QUERY: self._trimmed(query), INSTRUCTION: instruction or ""}
        pieces = _pieces(prompt, instruction)
        filled = [_fill(piece, texts) for piece in pieces]
        place = next(index for index, parts in enumerate(filled) if any(text is None for text, _ in parts))
        at = next(index for index, (text, _) in enumerate(filled[place]) if text is None)
        self._before: _Parts = _texts(filled[place][:at])
        self._behind: _Parts = _texts(filled[place][at + 1 :])
        self._head = [number for parts in filled[:place] for number in self._ids(_texts(parts))]
        self._tail = [number for parts in filled[place + 1 :] for number in self._ids(_texts(parts))]

    def row(self, document: str, *, truncate: bool, number: int = 0) -> list[int]:
        """Token ids of the prompt with a document.

        Args:
            truncate: cut the document off at its end where the row would be too long.
            number: of the document, for the error.

        Raises:
            InputError: it is too long, or leaves no room for one token of the document.
        """
        document = self._trimmed(document)
        row = [*self._head, *self._ids([*self._before, (document, True), *self._behind]), *self._tail]
        if self._limit is None or len(row) <= self._limit:
            return row
        if not truncate:
            raise InputError(
                "A document is too long for the model",
                received=f"{len(row)} tokens of the prompt with document {number}",
                allowed=f"at most {self._limit}",
                fix="Shorten it, or cut it off: truncate=True, or --truncate.",
            )
        start = self._ids([*self._before, (document, True)])
        behind = [*self._ids(self._behind), *self._tail]
        least, room = len(self._ids(self._before)), self._limit - len(self._head) - len(behind)
        if room <= least:
            raise InputError(
                "The query leaves no room for a document",
                received=f"{len(self._head) + least + len(behind)} tokens of the prompt with the query alone",
                allowed=f"fewer than {self._limit}",
                fix="Shorten the query or the instruction.",
            )
        return [*self._head, *start[:room], *behind]

    def _trimmed(self, text: str) -> str:
        return text.strip() if self._trims else text

    def _ids(self, parts: _Parts) -> list[int]:
        """Token ids of a piece, in which what is data holds no control token."""
        whole = ""
        ends: list[int] = []
        for text, is_data in parts:
            ends += range(len(whole) + 1, len(whole) + len(text) + 1) if is_data else ()
            whole += text
        return self._controls.encode(TracedPrompt(text=whole, ends=tuple(ends))) if whole else []


def _pieces(prompt: RerankPrompt, instruction: str | None) -> Sequence[str]:
    if instruction is None:
        return prompt.pieces
    if not prompt.instructed:
        raise no_instruction(instruction)
    return prompt.instructed


def no_instruction(instruction: str) -> InputError:
    """The error for an instruction to a model that takes none."""
    return InputError(
        "The model takes no instruction",
        received=shown(instruction),
        allowed="a query and documents alone",
        fix="Leave the instruction out.",
    )


def _fill(piece: str, texts: Mapping[str, str]) -> list[tuple[str | None, bool]]:
    """The parts of a piece; the document's is None."""
    return [
        (text, False) if name is None else (None if name == DOCUMENT else texts[name], True)
        for name, text in split_slots(piece)
    ]


def _texts(parts: Sequence[tuple[str | None, bool]]) -> _Parts:
    return [(text, is_data) for text, is_data in parts if text is not None]
