"""What the gate asks of an embedding model: vectors that point where the source's do, and that rank texts alike.

Vectors are for searching. A format that turns every vector a little may keep the order of what is found, or lose it, so
both are judged: the cosine of each vector with the source's, and which texts of a small corpus its vectors find.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.exam import Floats
from jisu.exporter.gate.intervals import mean_interval
from jisu.exporter.gate.one_pass_exam import Numbers, OnePassExam, cosines
from jisu.exporter.gate.result import Check

FOUND = 10  # texts that a query finds
_BATCH = 16


def check_vectors(exam: OnePassExam) -> list[Check]:
    """Held-out texts alone, and a small corpus in batches."""
    windows = exam.texts.windows
    truth = np.concatenate([exam.truth(row) for row in windows])
    vectors = np.concatenate([exam.candidate([row], f"held-out text {index}")[0] for index, row in enumerate(windows)])
    on = f"on {len(windows)} held-out texts of {min(map(len, windows))} to {max(map(len, windows))} tokens"
    figures = [_compare(exam, truth, vectors, on=on)]
    ranking = rank_corpus(exam)
    if ranking is not None:
        figures += ranking.checks(exam)
        exam.quality["ranking"] = ranking.to_dict()
    return figures


def _compare(exam: OnePassExam, truth: Numbers, vectors: Numbers, *, on: str) -> Check:
    values = cosines(truth, vectors)
    names = [domain.name for domain in exam.texts.judged.domains for _ in domain.windows]
    exam.quality["vectors"] = {"domains": _by_domain(names, values), "texts": len(values)}
    if exam.strict:
        errors = np.array([exam.distance(*pair) for pair in zip(truth[:, None], vectors[:, None], strict=True)])
        wrong = np.flatnonzero(~(errors <= exam.limit))
        detail = f"The same vectors {on}, {errors.max():.3g} {exam.unit}."
        if len(wrong):
            detail = f"{len(wrong)} other vectors {on}, first of text {int(wrong[0])}."
        value, passed = float(errors.max()), not len(wrong)
        return Check(name="vectors", passed=passed, value=value, limit=exam.limit, unit=exam.unit, detail=detail)
    limit = exam.budget.min_cosine or 0.0
    worst = int(np.argmin(np.where(np.isfinite(values), values, -np.inf)))
    return Check(
        name="cosine",
        # Comparisons with NaN are False: no figure that could not be computed passes.
        passed=bool((values >= limit).all()),
        value=float(values[worst]),
        limit=limit,
        unit="cosine",
        detail=f"The cosine of each vector with the source's is {values[worst]:.5f} or more {on}, {values.mean():.5f} "
        f"on average; lowest in {names[worst]}.",
    )


def _by_domain(names: Sequence[str], values: Floats) -> list[dict[str, Any]]:
    """Figures of every domain, whose name stands beside each of its texts."""
    figures = []
    for name in dict.fromkeys(names):
        part = values[[other == name for other in names]]
        figures.append({"name": name, "texts": len(part), "mean": float(part.mean()), "smallest": float(part.min())})
    return figures


@dataclass(frozen=True, kw_only=True)
class Ranking:
    """How alike two sets of vectors rank a corpus.

    Attributes:
        recall: share of the source's `FOUND` nearest texts that are among the candidate's, for each query.
        correlation: Spearman's rank correlation of all similarities, for each query.
        texts: of the corpus.
    """

    recall: Floats
    correlation: Floats
    texts: int

    def to_dict(self) -> dict[str, Any]:
        return {
            "texts": self.texts,
            "queries": len(self.recall),
            f"recall_at_{FOUND}": float(self.recall.mean()),
            "recall_interval": list(mean_interval(self.recall, block=1)),
            "rank_correlation": float(self.correlation.mean()),
        }

    def checks(self, exam: OnePassExam) -> list[Check]:
        """What its figures have to be; the same order where every number is compared."""
        limit = exam.budget.min_recall or 0.0
        value, interval = float(self.recall.mean()), mean_interval(self.recall, block=1)
        on = f"{len(self.recall)} queries on {self.texts} texts"
        return [
            Check(
                name=f"recall@{FOUND}",
                # Like every figure of text, it is beyond its limit when its interval is.
                passed=bool(interval.high >= limit),
                value=value,
                limit=limit,
                unit="share",
                detail=f"{100 * value:.4g} % ({100 * interval.low:.4g} to {100 * min(1.0, interval.high):.4g}) of the "
                f"{FOUND} nearest texts are the source's, and the rank correlation is {self.correlation.mean():.5f}: "
                f"{on}.",
            )
        ]


def rank_corpus(exam: OnePassExam) -> Ranking | None:
    """Rank the corpus by both; None where the model has no texts to rank."""
    queries, corpus = exam.texts.queries, exam.texts.corpus
    if not queries or len(corpus) <= FOUND:
        return None
    source = [np.concatenate([exam.truth(row) for row in rows]) for rows in (queries, corpus)]
    ours = [_in_batches(exam, queries, "a query"), _in_batches(exam, corpus, "a text of the corpus")]
    return compare_rankings(_similarities(*source), _similarities(*ours))


def compare_rankings(truth: Floats, actual: Floats) -> Ranking:
    """How alike similarities of queries and texts, float64 [Q, N] each, rank the texts."""
    first, second = (np.argsort(-values, axis=1, kind="stable")[:, :FOUND] for values in (truth, actual))
    recall = np.array([len(set(one) & set(other)) / FOUND for one, other in zip(first, second, strict=True)])
    ranks = [np.argsort(np.argsort(values, axis=1, kind="stable"), axis=1) for values in (truth, actual)]
    centred = [rank - rank.mean(axis=1, keepdims=True) for rank in ranks]
    spread = np.sqrt((centred[0] ** 2).sum(axis=1) * (centred[1] ** 2).sum(axis=1))
    correlation = (centred[0] * centred[1]).sum(axis=1) / spread
    finite = np.isfinite(actual).all(axis=1)
    return Ranking(
        recall=np.where(finite, recall, np.nan), correlation=np.where(finite, correlation, np.nan), texts=truth.shape[1]
    )


def _in_batches(exam: OnePassExam, rows: Sequence[TokenIds], label: str) -> Numbers:
    """Vectors of texts as a user gets them, several in one call and in the order of their lengths."""
    order = sorted(range(len(rows)), key=lambda index: len(rows[index]))
    vectors: Numbers = np.empty((len(rows), exam.reference.columns), np.float32)
    step = _BATCH if exam.backend.takes_unequal else 1
    for start in range(0, len(order), step):
        part = order[start : start + step]
        vectors[part] = np.concatenate(exam.candidate([rows[index] for index in part], label))
    return vectors


def _similarities(queries: Numbers, corpus: Numbers) -> Floats:
    """Cosine of each query with each text, float64 [Q, N]."""
    one, other = (
        rows.astype(np.float64) / np.maximum(np.linalg.norm(rows.astype(np.float64), axis=1, keepdims=True), 1e-12)
        for rows in (queries, corpus)
    )
    similarities: Floats = one @ other.T
    return similarities
