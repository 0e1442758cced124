"""The account of a checkpoint: every statement that its files make, and what became of it.

A format's reader adds what it reads with `Account.state`; nothing that a file says may be missing from it. What is not
understood is refused by name, all of it at once, with `Account.refuse`. It knows no file format.
"""

from __future__ import annotations

import fnmatch
import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

from jisu.exporter.contract.errors import InputError

Kind = Literal["tensor", "config", "gguf", "tokenizer", "generation", "file"]
Fate = Literal["used", "derived", "harmless", "unread", "ignored", "refused"]

# In the plural, for messages.
KINDS: dict[Kind, str] = {
    "tensor": "stored tensors",
    "config": "keys of the configuration",
    "gguf": "GGUF keys",
    "tokenizer": "statements about the tokenizer",
    "generation": "generation settings",
    "file": "files",
}
# What a user can do about refused statements.
_WAYS: dict[Kind, str] = {
    "config": "Correct config.json where its keys are wrong",
    "generation": "Correct generation_config.json",
    "tokenizer": "Keep the tokenizer's files that belong together",
    "tensor": "Leave tensors that are none of the model out with --ignore-weights PATTERN",
    "gguf": "Use the model's original Hugging Face folder instead",
}
_MOST_NAMED = 20  # groups of names in a record
_MOST_SHOWN = 5  # in a sentence
# A number between dots, or at an end: that of a layer or an expert.
_NUMBER = re.compile(r"(?<![^.])\d+(?![^.])")


@dataclass(frozen=True, kw_only=True)
class Statement:
    """One thing that a checkpoint says.

    Attributes:
        kind: what says it.
        name: of the tensor, key, rule or file, as the checkpoint spells it; a key within another with dots.
        fate: ``used`` as part of the model; ``derived``: stored, and known to follow from the rest; ``harmless``: known
            to change no answer; ``unread``: nothing reads it, which is reported; ``ignored`` on the user's
            request; ``refused``: it is not understood, and may change answers.
        why: used as what, derived from what, or refused for what reason. Of what is plainly used: empty.
        dtype: of a tensor, in its format's own spelling.
    """

    kind: Kind
    name: str
    fate: Fate
    why: str = ""
    dtype: str = ""


@dataclass(frozen=True, kw_only=True)
class Account:
    """All statements of a checkpoint, in the order in which they were read.

    ``ignore`` are the patterns of stored tensors that the user asked to leave out. ``remarks`` are sentences about the
    whole checkpoint that whoever exports it should read.
    """

    statements: tuple[Statement, ...] = ()
    ignore: tuple[str, ...] = ()
    remarks: tuple[str, ...] = ()

    def state(self, kind: Kind, names: str | Iterable[str], *, fate: Fate, why: str = "", dtype: str = "") -> Account:
        """The account with one more statement, or one for each of several names."""
        listed = [names] if isinstance(names, str) else list(names)
        return self.add(Statement(kind=kind, name=name, fate=fate, why=why, dtype=dtype) for name in listed)

    def add(self, statements: Iterable[Statement]) -> Account:
        """The account with more statements; what a file with many of them is read with."""
        return replace(self, statements=(*self.statements, *statements))

    def remark(self, sentence: str) -> Account:
        """The account with one more sentence for whoever exports the checkpoint."""
        return replace(self, remarks=(*self.remarks, sentence))

    def names(self, fate: Fate, kind: Kind | None = None) -> list[str]:
        """What met this fate, of one kind or of all."""
        return [one.name for one in self.statements if one.fate == fate and kind in (None, one.kind)]

    def refuse(self, checkpoint: Path | str) -> None:
        """Raise InputError that names everything refused; return when nothing is."""
        groups = self._grouped("refused")
        if not groups:
            return
        problems = [
            f"{KINDS[kind]} {shorten(collapse(names))}{f' ({why})' if why else ''}"
            for (kind, why), names in groups.items()
        ]
        kinds = {kind for kind, _ in groups}
        ways = [_WAYS[kind] for kind in _WAYS if kind in kinds]
        raise InputError(
            f"Parts of {checkpoint} would be ignored silently",
            received="; ".join(problems),
            allowed="tensors, keys and rules that the model uses, or that are known to change no answer",
            fix=f"{'. '.join(ways) or 'Remove what does not belong to it'}, or convert the checkpoint again.",
        )

    def notes(self) -> tuple[str, ...]:
        """Sentences for whoever exports: remarks, what nothing reads, and what was left out on request."""
        words: dict[Fate, str] = {"unread": "that nothing reads", "ignored": "left out on request"}
        matched = {one.why for one in self.statements if one.fate == "ignored"}
        idle = [pattern for pattern in self.ignore if pattern not in matched]
        notes = tuple(
            f"{KINDS[kind].capitalize()} {said}: {shorten(collapse(names))}{f' ({why})' if why else ''}."
            for fate, said in words.items()
            for (kind, why), names in self._grouped(fate).items()
        )
        return (*self.remarks, *notes, *(f"No stored tensor matches --ignore-weights {one!r}." for one in idle))

    def to_record(self) -> dict[str, Any]:
        """For the manifest: counts by kind and fate, and the names of all that is not plainly used."""
        counts: dict[str, Counter[str]] = {}
        for one in self.statements:
            counts.setdefault(one.kind, Counter())[one.fate] += 1
        dtypes = Counter(one.dtype for one in self.statements if one.dtype)
        fates: tuple[Fate, ...] = ("used", "derived", "harmless", "unread", "ignored", "refused")
        return {
            "counts": {kind: dict(numbers) for kind, numbers in counts.items()},
            "dtypes": dict(sorted(dtypes.items())),
            "named": [
                {"kind": kind, "fate": fate, "count": len(names), "names": listed[:_MOST_NAMED], "why": why}
                for fate in fates
                for (kind, why), names in self._grouped(fate).items()
                if (fate != "used" or why) and (listed := collapse(names))
            ],
            "remarks": list(self.remarks),
            "ignore_weights": list(self.ignore),
        }

    def _grouped(self, fate: Fate) -> dict[tuple[Kind, str], list[str]]:
        groups: dict[tuple[Kind, str], list[str]] = {}
        for one in self.statements:
            if one.fate == fate:
                groups.setdefault((one.kind, one.why), []).append(one.name)
        return groups


def is_ignored(name: str, patterns: Sequence[str]) -> bool:
    """Whether a stored tensor matches one of the patterns that leave weights out, such as ``*.mtp.*``."""
    return any(fnmatch.fnmatchcase(name, pattern) for pattern in patterns)


def collapse(names: Iterable[str]) -> list[str]:
    """Names in their order, those that differ in the numbers of layers as one with ``*``."""
    groups: dict[str, list[str]] = {}
    for name in names:
        groups.setdefault(_NUMBER.sub("*", name), []).append(name)
    return [pattern if len(set(several)) > 1 else several[0] for pattern, several in groups.items()]


def shorten(names: Sequence[str]) -> str:
    """The first five of some names, and how many more there are."""
    text = ", ".join(names[:_MOST_SHOWN])
    return text if len(names) <= _MOST_SHOWN else f"{text} and {len(names) - _MOST_SHOWN} more"
