"""What the gate asks of a classifier's answers: the same labels, scores within the budget, and the same of pairs.

A model with one score for a pair of texts ranks: then the order of documents counts as well.
"""

from __future__ import annotations

import numpy as np

from jisu.exporter.gate.embedding import FOUND, compare_rankings
from jisu.exporter.gate.exam import Floats
from jisu.exporter.gate.held_out import Question, check_held_out, held_out_windows
from jisu.exporter.gate.one_pass_exam import OnePassExam
from jisu.exporter.gate.result import Check

# The least share of the first ten documents that have to be the source's, and the least rank correlation.
MIN_RANKED, MIN_CORRELATION = 0.85, 0.95


def check_labels(exam: OnePassExam) -> list[Check]:
    """Held-out texts, one at a time: the same labels, and scores within the budget; likewise pairs of them."""
    noun = "label" if exam.decides else "score"
    checks = check_held_out(exam, held_out_windows(exam), name=f"{noun}s", noun=noun)
    if exam.texts.pairs:
        domains = [(name, [Question(row=row) for row in rows]) for name, rows in exam.texts.pairs]
        checks += check_held_out(exam, domains, name="pairs", noun=noun, prefix="pairs-")
    if exam.texts.ranked and exam.reference.columns == 1:
        checks.append(check_ranking(exam))
    return checks


def check_ranking(exam: OnePassExam) -> Check:
    """The order in which queries find documents, by the source's scores and the candidate's."""
    rows = exam.texts.ranked
    truth: Floats = np.array([[float(exam.truth(row)[0, 0]) for row in pairs] for pairs in rows])
    scores: Floats = np.array(
        [[float(exam.candidate([row], "a document")[0][0, 0]) for row in pairs] for pairs in rows]
    )
    ranking = compare_rankings(truth, scores)
    exam.quality["ranking"] = ranking.to_dict()
    recall, correlation = float(ranking.recall.mean()), float(ranking.correlation.mean())
    # Documents that the source itself can hardly tell apart may change places.
    least = MIN_CORRELATION if not exam.strict else 1 - (1 - MIN_CORRELATION) / 10
    return Check(
        name="ranking",
        passed=bool(recall >= MIN_RANKED) and bool(correlation >= least),
        value=correlation,
        limit=least,
        unit="rank correlation",
        detail=f"{len(rows)} queries on {len(rows[0])} documents each: the rank correlation is {correlation:.5f}, and "
        f"{100 * recall:.4g} % of the first {FOUND} are the source's.",
    )
