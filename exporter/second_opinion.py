"""Asks another implementation about the checkpoint that an artifact was made from, and says where the two part.

The gate compares an artifact with the source as this project and transformers loaded it; a source that was loaded
wrong passes. llama.cpp reads a GGUF file with code of its own; of a folder, transformers is asked by its plain public
way, without the adapters, attention functions and rewritten layers that an export works with.
"""

from __future__ import annotations

import contextlib
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.contract.artifact import Artifact, ModelFacts
from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.result import Check
from jisu.exporter.opinions.asking import Answers, ask_worker, has_package
from jisu.exporter.opinions.comparison import (
    NAME,
    Rows,
    SequenceFigures,
    compare_ids,
    judge_continuations,
    judge_logits,
    judge_texts,
    measure_sequence,
    to_record,
)
from jisu.exporter.opinions.limits import EXACT, Limits, limits_of_types
from jisu.exporter.opinions.questions import Questions, choose_questions, read_artifact_tokenizer
from jisu.exporter.precision.precision import precision_named

if TYPE_CHECKING:
    from jisu.exporter.contract.backend import Backend
    from jisu.exporter.gate.domain_tokens import TokenIds
    from jisu.exporter.sources.source import Source

_PIECE_BYTES = 64 << 20  # of logits at once
_KEPT_BYTES = 256 << 20  # of one sequence's logits, on the disk; of a longer one the last rows are compared
INSTALL = "python -m venv build/llama-cpp && build/llama-cpp/bin/pip install 'llama-cpp-python>=0.3.16'"


@dataclass(frozen=True, kw_only=True)
class SecondOpinion:
    """What another implementation says: checks as the gate's, and the figures of each sequence for the record."""

    checks: tuple[Check, ...]
    implementation: str
    figures: tuple[SequenceFigures, ...]

    @property
    def agrees(self) -> bool:
        return bool(self.checks) and all(check.passed for check in self.checks)

    def to_dict(self) -> dict[str, Any]:
        return {
            "implementation": self.implementation,
            "agrees": self.agrees,
            "sequences": to_record(self.figures),
        }


def ask_second_opinion(
    artifact: Artifact,
    source: Source,
    *,
    python: str | None = None,
    allow_pickle: bool = False,
    threads: int = 2,
) -> SecondOpinion:
    """Run the same texts and tokens through the artifact and through another implementation of its checkpoint.

    Args:
        artifact: opened; what its gate says is of no matter here.
        source: its checkpoint, loaded; the other implementation opens the same files.
        python: interpreter of the environment that has the other implementation; this one when None.
        allow_pickle: let transformers read pickled weights.
        threads: of the other implementation.

    Returns:
        The opinion; a divergence is a result, not an error.

    Raises:
        InputError: no other implementation can run this kind of checkpoint, it is not installed, or it cannot open it.
    """
    tokenizer = read_artifact_tokenizer(artifact.folder)
    with _open_opinion(source, tokenizer, python=python, allow_pickle=allow_pickle, threads=threads) as opinion:
        checks = [*_judge_tokens(tokenizer, opinion), *_judge_template(artifact, opinion)]
        more, figures = _judge_artifact(artifact, source, opinion)
    return SecondOpinion(checks=(*checks, *more), implementation=opinion.implementation, figures=tuple(figures))


def ask_about_source(
    source: Source, *, python: str | None = None, allow_pickle: bool = False, threads: int = 2
) -> SecondOpinion:
    """The same of a loaded checkpoint that nothing was exported from; arguments and errors as above."""
    tokenizer = None if source.tokenizer is None else source.tokenizer.backend_tokenizer
    with _open_opinion(source, tokenizer, python=python, allow_pickle=allow_pickle, threads=threads) as opinion:
        checks = _judge_tokens(tokenizer, opinion)
        if (mismatch := _judge_vocabulary(source.model, opinion)) is not None:
            return SecondOpinion(checks=(*checks, mismatch), implementation=opinion.implementation, figures=())
        figures = _measure(opinion, opinion.limits, lambda ids: _of_source(source, ids))
    return SecondOpinion(
        checks=(*checks, *judge_logits(figures, opinion.limits)),
        implementation=opinion.implementation,
        figures=tuple(figures),
    )


@dataclass(frozen=True, kw_only=True)
class Witness:
    """Another implementation: the worker that asks it, and the interpreter that has it.

    ``rounds_activations``: it does so to the type of the weights. ``stops``: it ends a continuation as the checkpoint's
    generation settings say; otherwise the most likely tokens are taken whatever they are.
    """

    name: str
    worker: str
    python: str
    rounds_activations: bool
    stops: bool


@dataclass(frozen=True, kw_only=True)
class _Asked:
    """What was asked and answered, and how far two right answers may be apart."""

    witness: Witness
    questions: Questions
    answers: Answers
    limits: Limits

    @property
    def implementation(self) -> str:
        return f"{self.witness.name} ({self.answers.version})"


@contextlib.contextmanager
def _open_opinion(
    source: Source, tokenizer: Any | None, *, python: str | None, allow_pickle: bool, threads: int
) -> Iterator[_Asked]:
    """Have a checkpoint's other implementation answer; its logits lie on the disk until the block ends."""
    witness = choose_witness(source.provenance, source.model_kind, python=python)
    facts = source.model
    questions = choose_questions(
        tokenizer, vocab_size=facts.vocab_size, max_positions=facts.max_positions, window=_window(source)
    )
    request = questions.to_dict() | {
        "checkpoint": str(Path(source.provenance["name"]).absolute()),
        "task": source.model_kind,
        "pickle": allow_pickle,
        "threads": threads,
        "rows": max(1, _KEPT_BYTES // (4 * facts.vocab_size)),
    }
    with tempfile.TemporaryDirectory(prefix="jisu-opinion-") as folder:
        answers = ask_worker(witness.worker, request, Path(folder), python=witness.python, who=witness.name)
        limits = limits_of_types(source.provenance["dtype"]) if witness.rounds_activations else EXACT
        yield _Asked(witness=witness, questions=questions, answers=answers, limits=limits)


def choose_witness(provenance: dict[str, Any], model_kind: str, *, python: str | None = None) -> Witness:
    """The other implementation for a kind of checkpoint; raises InputError when none is there."""
    kind = provenance.get("kind")
    if model_kind != "text-generation" or kind not in ("gguf", "hf-folder"):
        raise InputError(
            "No other implementation can give a second opinion about this artifact",
            received=f"a model for {model_kind} from a checkpoint of kind {kind}",
            allowed="a model for text-generation from a GGUF file or a Hugging Face folder",
            fix="Verify it without --second-opinion.",
        )
    if kind == "hf-folder":
        return Witness(
            name="transformers",
            worker="transformers_worker",
            python=python or sys.executable,
            rounds_activations=False,
            stops=True,
        )
    chosen = python or sys.executable
    if not has_package(chosen, "llama_cpp"):
        raise InputError(
            "A second opinion about a GGUF file needs llama.cpp, which is not installed",
            received=f"no package llama_cpp in {chosen}",
            allowed="an interpreter that imports llama_cpp",
            fix=f"Install it with: {INSTALL} and name it with --opinion-python build/llama-cpp/bin/python.",
        )
    return Witness(name="llama.cpp", worker="llama_cpp_worker", python=chosen, rounds_activations=True, stops=False)


def _judge_tokens(tokenizer: Any | None, opinion: _Asked) -> list[Check]:
    answers, texts = opinion.answers, opinion.questions.texts
    if tokenizer is None or answers.ids is None or answers.special_ids is None:
        if (tokenizer is None) == (answers.ids is None):
            return []
        who = "The artifact has a tokenizer, the other implementation found none."
        who = who if answers.ids is None else "The other implementation found a tokenizer, the artifact has none."
        return [judge_texts("tokens", [who], "")]
    plain = [tokenizer.encode(text, add_special_tokens=False).ids for text in texts]
    special = [tokenizer.encode(text, add_special_tokens=True).ids for text in texts]
    differing = compare_ids(texts, plain, answers.ids) or compare_ids(texts, special, answers.special_ids)
    return [judge_texts("tokens", differing, f"Same ids for {len(texts)} texts.")]


def _judge_vocabulary(facts: ModelFacts, opinion: _Asked) -> Check | None:
    """A failed check where the two have not as many columns of logits; nothing else can be compared then."""
    ours, theirs = facts.vocab_size, opinion.answers.vocab_size
    if ours == theirs:
        return None
    detail = f"{ours} logits per token; the other implementation has {theirs}."
    return Check(name=f"{NAME}-vocabulary", passed=False, value=ours, limit=theirs, unit="tokens", detail=detail)


def _judge_artifact(artifact: Artifact, source: Source, opinion: _Asked) -> tuple[list[Check], list[SequenceFigures]]:
    from jisu.runtimes.backends.registry import open_backend

    if (mismatch := _judge_vocabulary(artifact.manifest.model, opinion)) is not None:
        return [mismatch], []
    limits, questions = opinion.limits, opinion.questions
    exact = precision_named(artifact.manifest.precision).budget.max_logit_error is not None
    checks: list[Check] = []
    if not exact:  # what it is verified with may be held to the strict limits; it itself to its own budget
        figures = _measure(opinion, limits, lambda ids: _of_source(source, ids))
        checks += judge_logits(figures, limits, name=f"{NAME}-source")
    backend = open_backend("ort-cpu", artifact)
    try:
        own = limits if exact else _relaxed(artifact, limits)
        figures = _measure(opinion, own, lambda ids: _of_backend(backend, ids))
        checks += judge_logits(figures, own)
        if exact and limits.max_logit_error is not None:
            run = _generate if opinion.witness.stops else _continue
            continued = [run(artifact, backend, ids, questions.new_tokens) for ids in questions.prompts]
            checks.append(judge_continuations(continued, opinion.answers.continuations, limits))
    finally:
        backend.close()
    return checks, figures


def _measure(opinion: _Asked, limits: Limits, run: Callable[[TokenIds], Iterator[Rows]]) -> list[SequenceFigures]:
    figures = []
    for (name, ids), other in zip(opinion.questions.sequences.items(), opinion.answers.logits, strict=True):
        start = len(ids) - len(other)
        pieces = _from(run(ids), start)
        figures.append(measure_sequence(name, other, pieces, start=start, limits=limits))
    return figures


def _from(pieces: Iterator[Rows], start: int) -> Iterator[Rows]:
    """The rows from a position on."""
    done = 0
    for rows in pieces:
        if done + len(rows) > start:
            yield rows[max(0, start - done) :]
        done += len(rows)


def _of_backend(backend: Backend, ids: TokenIds) -> Iterator[Rows]:
    state = backend.new_state(1, len(ids))
    step = max(1, _PIECE_BYTES // (4 * backend.vocab_size))
    for first in range(0, len(ids), step):
        yield backend.forward(ids[None, first : first + step], state, logits="all")[0].copy()


def _of_source(source: Source, ids: TokenIds) -> Iterator[Rows]:
    from jisu.exporter.gate.reference import reference_of

    reference = reference_of(source)
    step = max(1, _PIECE_BYTES // (4 * reference.vocab_size))
    for first in range(0, len(ids), step):
        yield reference.logits(ids, slice(first, min(first + step, len(ids))))


def _judge_template(artifact: Artifact, opinion: _Asked) -> list[Check]:
    from jisu.runtimes.chat.chat_template import open_chat_template

    rendered = {index: text for index, text in enumerate(opinion.answers.rendered) if text is not None}
    template = open_chat_template(artifact.folder)
    if not rendered or template is None:
        return []
    differing = []
    for index, theirs in rendered.items():
        ours = template.render([dict(message) for message in opinion.questions.conversations[index]])
        if ours != theirs:
            differing.append(f"Conversation {index} becomes {ours!r} where the other implementation has {theirs!r}.")
    return [judge_texts("chat-template", differing, f"Same prompt for {len(rendered)} conversations.")]


def _generate(artifact: Artifact, backend: Backend, ids: TokenIds, count: int) -> list[int]:
    """The continuation that a user gets, by the checkpoint's own generation settings, without sampling."""
    from jisu.runtimes.engine import Engine

    results = Engine(artifact, backend).generate_ids([ids.tolist()], max_new_tokens=count, temperature=0.0)
    return list(results[0].token_ids)


def _continue(_: Artifact, backend: Backend, ids: TokenIds, count: int) -> list[int]:
    """The most likely tokens, whatever they are."""
    state = backend.new_state(1, len(ids) + count)
    tokens: list[int] = []
    fed = ids
    while len(tokens) < count:
        tokens.append(int(backend.forward(fed[None], state)[0, -1].argmax()))
        fed = np.asarray(tokens[-1:], np.int64)
    return tokens


def _relaxed(artifact: Artifact, limits: Limits) -> Limits:
    """What an artifact of reduced precision may differ by: its budget, on top of what two implementations do."""
    budget = precision_named(artifact.manifest.precision).budget
    room = budget.max_check_kl if budget.max_check_kl is not None else 0.0
    return Limits(max_logit_error=None, max_mean_kl=room + limits.max_mean_kl, min_top1=0.0)


def _window(source: Source) -> int | None:
    config: Any = getattr(source.module, "config", None)
    text = config.get_text_config() if hasattr(config, "get_text_config") else config
    window = getattr(text, "sliding_window", None)
    return window if isinstance(window, int) and window > 0 else None
