"""How close the numbers of models that read whole texts are to the source's: the gate's own questions and figures.

Each contestant is an examined candidate of `exporter.gate.one_pass`: its process is the backend and the source's the
reference. Numbers go through files, as logits of tokens do.
"""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from jisu.benchmarks.compare.artifact_tokenizer import artifact_tokenizer
from jisu.benchmarks.compare.journal import Journal
from jisu.benchmarks.compare.rounds import Outcome, Processes, Say, fail
from jisu.benchmarks.compare.timed_process import ContestantError, TimedProcess
from jisu.benchmarks.compare.token_quality import Floats, ReferenceFailedError, TokenIds
from jisu.exporter.contract.artifact import CLASSIFICATION, EMBEDDING, PAIR_KINDS, PER_TOKEN_KINDS, Artifact, ModelKind
from jisu.exporter.contract.one_pass_backend import Rows
from jisu.exporter.contract.signature import ATTENTION_MASK, LOGITS, SENTENCE_EMBEDDING, TOKEN_TYPE_IDS
from jisu.exporter.gate.one_pass import ask_held_out
from jisu.exporter.gate.one_pass_exam import OnePassExam
from jisu.exporter.gate.texts import GateTexts, gate_texts
from jisu.exporter.precision.budget import Budget

PAIRS = "pairs: "
_KEPT = 1 << 18  # numbers of a text, at most, that the source is asked for once
# Nothing is judged here: the limits are those of whoever compares. Not strict, so that figures of quality are measured.
_MEASURED = Budget(max_check_kl=float("inf"), max_self_kl=float("inf"))


class _UntoldError(Exception):
    """A contestant does not tell its numbers: the reason."""


class ProcessBackend:
    """A contestant's process as a `OnePassBackend`.

    Args:
        model: what is known of all contestants.
        file: that numbers go through.
    """

    def __init__(self, process: TimedProcess, model: Artifact, file: str) -> None:
        facts, signature = model.manifest.model, model.manifest.signature
        outputs = {spec.name: spec for spec in signature.outputs}
        output = outputs[SENTENCE_EMBEDDING if SENTENCE_EMBEDDING in outputs else LOGITS]
        self.name = "process"
        self.columns, self.per_token = int(output.dims[-1]), len(output.dims) > 2
        self.vocab_size, self.max_positions = facts.vocab_size, facts.max_positions
        self.takes_unequal = signature.has_input(ATTENTION_MASK)
        self.takes_types = signature.has_input(TOKEN_TYPE_IDS)
        self._process, self._file = process, file

    def outputs(self, rows: Rows, types: Rows | None = None) -> Floats:
        """As the protocol says; raises ContestantError for numbers of another shape, or that are not finite."""
        lists = None if types is None else [list(row) for row in types]
        answer = self._process.write_numbers([list(row) for row in rows], lists, self._file)
        if "unsupported" in answer:
            raise _UntoldError(answer["unsupported"])
        numbers: Floats = np.load(self._file)
        expected = (len(rows), *([max(map(len, rows))] if self.per_token else []), self.columns)
        if numbers.shape != expected:
            raise ContestantError(f"numbers {numbers.shape} where the source has {expected}")
        own = [one[: len(row)] for one, row in zip(numbers, rows, strict=True)] if self.per_token else [numbers]
        bad = sum(int((~np.isfinite(one)).sum()) for one in own)
        if bad:
            raise ContestantError(f"{bad} numbers of {len(rows)} texts are not finite")
        return numbers

    def close(self) -> None:
        """Nothing: whoever started the process ends it."""


class ProcessReference:
    """The reference's process as what `OnePassExam` compares with; raises ReferenceFailedError."""

    def __init__(self, process: TimedProcess, model: Artifact, file: str) -> None:
        self._backend = ProcessBackend(process, model, file)
        self.columns = self._backend.columns
        self.kind: ModelKind = model.manifest.model_kind
        self.activation = model.manifest.model.activation
        self.description = str(process.opened.get("version"))
        # From one contestant to the next.
        self._kept: dict[tuple[bytes, bytes], Floats] = {}

    def logits(self, token_ids: TokenIds, positions: slice | None = None, types: TokenIds | None = None) -> Floats:
        key = (token_ids.tobytes(), b"" if types is None else types.tobytes())
        if key in self._kept:
            return self._kept[key]
        lists = None if types is None else [types.tolist()]
        try:
            numbers = self._backend.outputs([token_ids.tolist()], lists)
        except (ContestantError, _UntoldError) as error:
            raise ReferenceFailedError(str(error)) from error
        numbers = numbers[0] if self.kind in PER_TOKEN_KINDS else numbers
        if numbers.size <= _KEPT:
            self._kept[key] = numbers
        return numbers


def one_pass_texts(model: Artifact) -> GateTexts:
    """What the gate asks a model of this kind, as the artifact's own tokenizer encodes it."""
    facts, kind = model.manifest.model, model.manifest.model_kind
    return gate_texts(
        artifact_tokenizer(model.folder),
        facts.vocab_size,
        facts.max_positions,
        ranks=kind == EMBEDDING,
        pairs=kind in PAIR_KINDS,
        takes_types=model.manifest.signature.has_input(TOKEN_TYPE_IDS),
        ranks_documents=kind == CLASSIFICATION and len(facts.labels) == 1,
        rerank_prompt=facts.rerank_prompt,
        mask=facts.mask,
    )


def measure_one_pass_quality(
    reference: TimedProcess,
    outcomes: Mapping[str, Outcome],
    processes: Processes,
    *,
    model: Artifact,
    texts: GateTexts,
    journal: Journal,
    say: Say,
) -> None:
    """Fill in the quality of every contestant with a process; raises ReferenceFailedError."""
    with tempfile.TemporaryDirectory(prefix="jisu-numbers-") as folder:
        files = [str(Path(folder) / name) for name in ("reference.npy", "contestant.npy")]
        truth = ProcessReference(reference, model, files[0])
        for name in list(processes):
            say(f"quality of {name}: {len(texts.windows)} texts")
            backend = ProcessBackend(processes[name], model, files[1])
            exam = OnePassExam(backend=backend, reference=truth, texts=texts, budget=_MEASURED)
            try:
                ask_held_out(exam)
            except _UntoldError as reason:
                outcomes[name].quality = {"sets": {}, "greedy": None, "reason": str(reason)}
            except ContestantError as error:
                fail(outcomes[name], f"quality: {error}", processes, journal=journal, say=say)
                continue
            else:
                outcomes[name].quality = {**quality_of(exam), "greedy": None, "reason": None}
            journal.add({"contestant": name, "quality": outcomes[name].quality})


def quality_of(exam: OnePassExam) -> dict[str, Any]:
    """The report's figures of what an exam has measured: sets by domain, the worst of them, their mean, the ranking."""
    if exam.kind == EMBEDDING:
        sets = {
            item["name"]: {
                "least_cosine": item["smallest"],
                "mean_cosine": item["mean"],
                "texts": item["texts"],
                "judges": True,
            }
            for item in exam.quality["vectors"]["domains"]
        }
        worst = min(sets, key=lambda name: sets[name]["least_cosine"])
        averaged: tuple[str, ...] = ("mean_cosine",)
    else:
        sets = {}
        for key, prefix in (("domains", ""), ("pairs-domains", PAIRS)):
            sets |= {f"{prefix}{item['name']}": _of_labels(item, exam) for item in exam.quality.get(key, ())}
        worst = max(sets, key=lambda name: sets[name]["mean_kl"])
        averaged = ("mean_kl", "top1") if exam.decides else ("mean_kl",)
    average = {key: float(np.mean([figures[key] for figures in sets.values()])) for key in averaged}
    texts = sum(figures["texts"] for figures in sets.values())
    return {
        "sets": sets,
        "worst": {"domain": worst, **sets[worst]},
        "average": {**average, "domains": len(sets), "texts": texts},
        **({"ranking": _ranking(exam.quality["ranking"])} if "ranking" in exam.quality else {}),
        "not_judged": list(exam.texts.judged.left_out),
    }


def _of_labels(item: Mapping[str, Any], exam: OnePassExam) -> dict[str, Any]:
    """One domain's figures; a number that is only near cannot agree."""
    agreement = {"top1": item["top1"]} if exam.decides else {}
    return {
        "mean_kl": item["mean_kl"],
        **agreement,
        "texts": item["texts"],
        "judges": True,
        "intervals": item["intervals"],
    }


def _ranking(measured: Mapping[str, Any]) -> dict[str, Any]:
    recall: Sequence[float] = measured["recall_interval"]
    return {
        "recall_at_10": measured["recall_at_10"],
        "rank_correlation": measured["rank_correlation"],
        "queries": measured["queries"],
        "texts": measured["texts"],
        "intervals": {"recall_at_10": [max(0.0, recall[0]), min(1.0, recall[1])]},
    }
