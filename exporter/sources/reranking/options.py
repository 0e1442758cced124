"""What a user says of a decoder that is to rank documents: the prompt, and the tokens that answer it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.rerank_prompt import DOCUMENT, INSTRUCTION, QUERY, slot_problem
from jisu.exporter.sources.reranking.named_prompts import NAMED_PROMPTS

_LONGEST = 1 << 16  # characters of a prompt


@dataclass(frozen=True, kw_only=True)
class RerankOptions:
    """``prompt`` is a name of `NAMED_PROMPTS` or a text of the user's own; ``yes`` and ``no`` are texts of tokens.

    Without ``yes`` both tokens are those of a named prompt.
    """

    prompt: str
    yes: str | None = None
    no: str | None = None

    def to_record(self) -> dict[str, Any]:
        """For the manifest, so that the same source can be loaded again."""
        return {"prompt": self.prompt, "yes": self.yes, "no": self.no}

    @classmethod
    def from_record(cls, record: object) -> RerankOptions | None:
        """What a manifest says of them; None where it says nothing."""
        if not isinstance(record, Mapping) or not isinstance(record.get("prompt"), str):
            return None
        yes, no = (text if isinstance(text, str) else None for text in (record.get("yes"), record.get("no")))
        return cls(prompt=record["prompt"], yes=yes, no=no)


def rerank_options(
    prompt: str | Path | None, *, yes_token: str | None = None, no_token: str | None = None
) -> RerankOptions | None:
    """The options as a user gives them; None where there are none.

    Args:
        prompt: a name, or a text file.

    Raises:
        InputError: a file that cannot be read or has no places for a query and a document, or tokens without a prompt,
            or a prompt without its token.
    """
    if prompt is None:
        if yes_token is not None or no_token is not None:
            raise InputError(
                "Tokens that answer a prompt were named without the prompt",
                received="--yes-token" if yes_token is not None else "--no-token",
                allowed="them beside --rerank-prompt",
                fix=f"Add --rerank-prompt {'|'.join(NAMED_PROMPTS)} or a file of your own.",
            )
        return None
    named = isinstance(prompt, str) and prompt in NAMED_PROMPTS
    text = str(prompt) if named else _read(Path(prompt))
    if yes_token is None and (not named or no_token is not None):
        raise InputError(
            "Nothing says which token means that a document answers",
            received=f"--rerank-prompt {prompt}" + (f" --no-token {no_token}" if no_token is not None else ""),
            allowed="--yes-token beside a prompt of your own and beside --no-token",
            fix="Add --yes-token, such as --yes-token yes; the model's card says which one it is.",
        )
    return RerankOptions(prompt=text, yes=yes_token, no=no_token)


def _read(path: Path) -> str:
    names = ", ".join(NAMED_PROMPTS)
    try:
        text = path.read_text(encoding="utf-8")
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name, or no UTF-8
        raise InputError(
            f"There is no prompt {str(path)!r}",
            received=error,
            allowed=f"{names}; or a text file in UTF-8",
            fix="Choose the prompt that the model was trained with; its card says which.",
        ) from error
    needed = (INSTRUCTION, QUERY, DOCUMENT) if f"{{{INSTRUCTION}}}" in text else (QUERY, DOCUMENT)
    problem = slot_problem((text,), needed=needed)
    if problem is not None or len(text) > _LONGEST:
        raise InputError(
            f"The prompt {path} cannot be used",
            received=problem or f"{len(text)} characters",
            allowed=f"{{query}} and {{document}} once each, and at most one {{instruction}}, in {_LONGEST} characters",
            fix="Correct the file.",
        )
    return text
