"""The calibration text that every model has: its own writing, prompts, CPython's and torch's texts, random tokens.

Everything but the model's own writing is drawn at once; that takes a while and needs the weights, so it is planned here
and written by `write_own_windows` when everything else has been checked.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.contract.artifact import ONE_PASS_KINDS
from jisu.exporter.jobs.stages import ReportProgress
from jisu.exporter.quantization.own_writing import WritingSettings, choose_writing, fingerprint_prompts, write_windows
from jisu.exporter.quantization.prompt_tokens import (
    MOST_UNKNOWN,
    framed,
    inner_length,
    known_tokens,
    prompt_tokens,
    special_tokens,
    tokens_of,
    unknown_share,
)
from jisu.exporter.quantization.shared_text import shared_passages

if TYPE_CHECKING:
    from jisu.calibration.text.windows import TokenIds
    from jisu.exporter.jobs.resume_folder import ResumeFolder
    from jisu.exporter.sources.source import Source

SEED = 0
# Stands where the model's own writing will: no embedding has a row for it.
UNWRITTEN = -1
# What a resumed export finds the model's own writing under.
_OWN_WRITING = "own-writing"
# Of the random windows; `exporter.quantization.w8a8` draws others.
_RANDOM_SEED = 1


@dataclass(frozen=True, kw_only=True)
class Mixture:
    """Windows of all parts, mixed so that every piece of them has the parts in proportion.

    Attributes:
        ids: int64 [windows, length]; `UNWRITTEN` in those that ``writing`` will fill.
        parts: of each window, see `calibration.text.mixture`.
        made_of: a record of each part.
        left_out: why a part or a text is not among them.
        writing: what the model still has to write; None when nothing.
    """

    ids: TokenIds
    parts: tuple[str, ...]
    made_of: tuple[dict[str, Any], ...]
    left_out: tuple[str, ...] = ()
    writing: WritingSettings | None = None

    @property
    def fingerprint(self) -> str:
        """SHA-256 of what is known before anything is written: the same for the same model, settings and texts."""
        digest = hashlib.sha256(np.ascontiguousarray(self.ids, "<i8").tobytes())
        digest.update(json.dumps([list(self.parts), list(self.made_of)], sort_keys=True).encode())
        return digest.hexdigest()


def compose_mixture(
    source: Source,
    *,
    windows: int,
    length: int,
    shares: Mapping[str, float] | None = None,
    yours: Sequence[TokenIds] = (),
    evaluation: str | None = None,
    seed: int = SEED,
) -> Mixture:
    """Draw everything but the model's own writing.

    Args:
        windows: all together; fewer where the parts have no more.
        length: tokens of each.
        shares: of the parts; `calibration.text.mixture.SHARES` when None, and of these also those of ``yours``.
        yours: windows of the user's own texts, int64 [n, length] each; they are weighted alike.
        evaluation: the text that quality is measured on: built-in texts that have passages of it are left out.
    """
    from jisu.calibration.text.mixture import OWN, RANDOM, SHARES, YOUR_SHARE, YOURS, interleave_parts, share_windows

    left_out: list[str] = []
    prompts = prompt_tokens(source)
    drawn, facts = _builtin_windows(source, length, evaluation, prompts, left_out, seed=seed)
    if yours:
        drawn[YOURS] = in_turn(yours)
    part_shares = dict(SHARES if shares is None else shares)
    if yours and YOURS not in part_shares:
        part_shares[YOURS] = sum(part_shares.values()) * YOUR_SHARE / (1 - YOUR_SHARE)
    own = choose_writing(source, rows=windows if part_shares.get(OWN) else 0, length=length, seed=seed)
    if source.model_kind in ONE_PASS_KINDS:
        left_out.append(f"{OWN}: a model that reads whole texts writes none")
    available = {part: len(ids) for part, ids in drawn.items()} | {OWN: own.rows, RANDOM: windows}
    counts = share_windows(windows, part_shares, available)
    if RANDOM in counts:
        drawn[RANDOM] = random_windows_of(source, count=counts[RANDOM], length=length, seed=_RANDOM_SEED)
        facts[RANDOM] = {"behind": "special tokens in turn", "seed": _RANDOM_SEED}
    writing = None
    if OWN in counts:
        # What a large model cannot afford is known by the share that it would have had otherwise.
        requested = share_windows(windows, part_shares, {**available, OWN: windows})[OWN]
        writing = WritingSettings(rows=counts[OWN], length=length, seed=seed, requested=requested)
        drawn[OWN] = np.full((counts[OWN], length), UNWRITTEN, np.int64)
        facts[OWN] = {
            **writing.to_record(),
            "prompts": len(prompts),
            "prompts_sha256": fingerprint_prompts(prompts),
        }
    order = interleave_parts(counts)
    numbers = {part: iter(range(count)) for part, count in counts.items()}
    ids = np.stack([drawn[part][next(numbers[part])] for part in order])
    made_of = tuple(
        {
            "part": part,
            "windows": count,
            "share": count / len(order),
            **facts.get(part, {}),
            **({} if part == OWN else {"windows_sha256": _sha256(drawn[part][:count])}),
        }
        for part, count in counts.items()
    )
    return Mixture(ids=ids, parts=tuple(order), made_of=made_of, left_out=tuple(left_out), writing=writing)


def write_own_windows(
    source: Source,
    mixture: Mixture,
    *,
    resume: ResumeFolder | None = None,
    progress: ReportProgress | None = None,
) -> Mixture:
    """The mixture with what the model writes; windows that it cannot afford to write are left out.

    Args:
        resume: holds what an export like this one has written, or is to hold it.
    """
    from jisu.calibration.text.mixture import OWN

    if mixture.writing is None:
        return mixture
    kept = None if resume is None else resume.load(_OWN_WRITING)
    written = write_windows(source, mixture.writing, progress=progress) if kept is None else kept["windows"]
    if resume is not None and kept is None:
        resume.save(_OWN_WRITING, {"windows": written})
    ids, places = mixture.ids.copy(), [place for place, part in enumerate(mixture.parts) if part == OWN]
    ids[places[: len(written)]] = written
    missing = set(places[len(written) :])
    remaining = [place for place in range(len(ids)) if place not in missing]
    parts = tuple(mixture.parts[place] for place in remaining)
    made_of = []
    for entry in mixture.made_of:
        count = parts.count(entry["part"])
        more: dict[str, Any] = {"windows_sha256": _sha256(written)} if entry["part"] == OWN else {}
        if entry["part"] == OWN and missing:
            more["note"] = f"{len(missing)} windows fewer: every token runs the whole text before it again"
        made_of.append({**entry, "windows": count, "share": count / len(parts), **more})
    return Mixture(ids=ids[remaining], parts=parts, made_of=tuple(made_of), left_out=mixture.left_out)


def random_windows_of(source: Source, *, count: int, length: int, seed: int = 0) -> TokenIds:
    """Windows of random tokens, each behind one of the special tokens in turn; int64 [count, length]."""
    from jisu.calibration.text.windows import random_windows

    first = special_tokens(source)
    return random_windows(known_tokens(source), count=count, length=length, first=first, seed=seed).ids


def _builtin_windows(
    source: Source,
    length: int,
    evaluation: str | None,
    prompts: Sequence[Sequence[int]],
    left_out: list[str],
    *,
    seed: int,
) -> tuple[dict[str, TokenIds], dict[str, dict[str, Any]]]:
    """(windows of each part that is there, facts about the part)."""
    from jisu.calibration.text.builtin_texts import builtin_texts
    from jisu.calibration.text.mixture import PROMPTS

    if source.tokenizer is None:
        left_out.append("texts: the model has no tokenizer to read them with")
        return {}, {}
    streams: dict[str, list[list[int]]] = {}
    facts: dict[str, dict[str, Any]] = {}
    if prompts:
        streams[PROMPTS], facts[PROMPTS] = [list(chain.from_iterable(prompts))], {"prompts": len(prompts)}
    else:
        left_out.append(f"{PROMPTS}: the tokenizer does not know their words")
    for text in builtin_texts():
        if evaluation is not None and (shared := shared_passages(text.text, evaluation)[0]):
            left_out.append(f"{text.origin}: quality is measured on {len(shared)} of its passages")
            continue
        ids = tokens_of(source, text.text)
        unknown = unknown_share(source, ids)
        if unknown > MOST_UNKNOWN:
            left_out.append(f"{text.origin}: {unknown:.0%} of its tokens are unknown to the model")
            continue
        streams.setdefault(text.kind, []).append(ids)
        entry = facts.setdefault(text.kind, {"texts": []})
        entry["texts"].append({"text": text.origin, "sha256": hashlib.sha256(text.text.encode()).hexdigest()})
    windows = {part: _drawn(source, ids, length, seed=seed) for part, ids in streams.items()}
    return {part: ids for part, ids in windows.items() if len(ids)}, facts


def _drawn(source: Source, streams: Sequence[list[int]], length: int, *, seed: int) -> TokenIds:
    """Windows of some texts, in turn one of each; of a classifier each with the tokens that it expects around a text.

    A text shorter than a window gives none, and the windows of a text do not overlap.
    """
    from jisu.calibration.text.windows import draw_windows

    inner = inner_length(source, length)
    drawn = [draw_windows(ids, count=len(ids), length=inner, seed=seed).ids for ids in streams if len(ids) >= inner]
    generator = np.random.default_rng(seed)
    rows = in_turn([ids[generator.permutation(len(ids))] for ids in drawn])
    return framed(source, rows) if len(rows) else np.zeros((0, length), np.int64)


def in_turn(texts: Sequence[TokenIds]) -> TokenIds:
    """First windows of all texts, then second ones, and so on."""
    longest = max((len(ids) for ids in texts), default=0)
    rows = [ids[number] for number in range(longest) for ids in texts if number < len(ids)]
    return np.stack(rows) if rows else np.zeros((0, 0), np.int64)


def _sha256(ids: TokenIds) -> str:
    return hashlib.sha256(np.ascontiguousarray(ids, "<i8").tobytes()).hexdigest()
