"""Checks of a model that reads images or recordings beside texts: tokens, and logits behind what is shown.

The candidate's own reading, as its users have it, is compared with the source's processor and the source's whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.exam import Exam, Floats
from jisu.exporter.gate.quality import row_blocks
from jisu.exporter.gate.result import Check
from jisu.exporter.gate.shown_reference import Pieces, ShownReference
from jisu.exporter.precision.precision import FLOAT

if TYPE_CHECKING:
    from jisu.exporter.contract.image_prompt import ImagePrompt

# Largest difference of a feature, in standard deviations of all of them: ONNX Runtime differs from torch by 1e-5 after
# 27 layers, and a transposed, dropped or exchanged part by about one.
FEATURE_ERROR = 2e-3
# The same where weights are rounded. On 12 layers of 768 with random weights that read images it is 1e-3 in float16,
# 0.035 in 8 bits.
_ROUNDED_ERRORS = {FLOAT: FEATURE_ERROR, "float16": 2e-2, "bfloat16": 1.5e-1}
_INTEGER_ERROR = 0.3
# Logits of two pieces in the other order differ from the right ones by at least so many times the limit, or what reads
# images is not seen by these checks.
_SEEN = 3.0
_STEPS = 6  # tokens that follow a prompt, one by one
_CHUNK = 7
_MOST_TOKENS = 1500  # of a prompt
_LOGITS_BYTES = 256 << 20  # of all its logits


def feature_error(stored: str) -> float:
    """The limit for a graph whose weights are stored in this way, as the manifest says it."""
    return _ROUNDED_ERRORS.get(stored, _INTEGER_ERROR)


@dataclass(frozen=True, kw_only=True)
class ShownCase:
    """A prompt with images or recordings, and how the source continues it.

    Attributes:
        text: with a mark for each of the pieces.
        following: tokens behind the prompt, which are given to both.
    """

    name: str
    text: str
    pieces: Pieces
    following: tuple[int, ...]


class ShownExam:
    """One candidate before its examiners.

    Args:
        what: "image" or "recording", which the names of its checks begin with.
        reader: makes prompts of them as a user's engine does.
        reference: what the source says.
        cases: the first and the last are asked about most; the last has two pieces.
        exam: judges logits.
        own: judges what has a past: the source where the budget is strict, else the candidate's own prefill.
        feature_error: largest difference of a feature, in standard deviations of all of them.
    """

    def __init__(
        self,
        backend: Any,
        reader: Any,
        *,
        what: str,
        reference: ShownReference,
        cases: Sequence[ShownCase],
        exam: Exam,
        own: Exam,
        feature_error: float = FEATURE_ERROR,
    ) -> None:
        self.feature_error = feature_error
        self.backend, self.reader, self.what = backend, reader, what
        self.exam, self.own = exam, own
        self.reference, self.cases = reference, list(cases)
        self._truth: dict[str, npt.NDArray[np.float32]] = {}
        self._prompts: dict[str, ImagePrompt] = {}
        self._prefills: dict[str, npt.NDArray[np.float32]] = {}

    def truth(self, case: ShownCase) -> npt.NDArray[np.float32]:
        if case.name not in self._truth:
            self._forget_but(self._truth)
            self._truth[case.name] = self.reference.logits(case.text, case.pieces, case.following)
        return self._truth[case.name]

    def prompt(self, case: ShownCase) -> ImagePrompt:
        if case.name not in self._prompts:
            self._prompts[case.name] = self.reader.prompt(case.text, case.pieces, chat=False)
        return self._prompts[case.name]

    def prefill(self, case: ShownCase) -> npt.NDArray[np.float32]:
        """The candidate's logits over prompt and following tokens in one call."""
        if case.name not in self._prefills:
            self._forget_but(self._prefills)
            ids = [*self.prompt(case).token_ids, *case.following]
            self._prefills[case.name] = self.call([self.prompt(case)], [ids], [len(ids)])[0]
        return self._prefills[case.name]

    def compared(self, case: ShownCase, logits: npt.NDArray[np.float32], start: int = 0) -> tuple[Floats, Exam]:
        """Errors of logits at places from ``start`` on, of what has a past, and who judges them."""
        exam = self.own
        truth = self.prefill(case) if exam.against_itself else self.truth(case)
        return distances(exam, truth[start : start + len(logits)], logits, start=start, label=case.name), exam

    def _forget_but(self, kept: dict[str, npt.NDArray[np.float32]]) -> None:
        """Give logits back that no later check asks for: those of all cases but the first and the last."""
        for case in self.cases[1:-1]:
            kept.pop(case.name, None)

    def call(
        self, prompts: Sequence[ImagePrompt], rows: Sequence[Sequence[int]], bounds: Sequence[int]
    ) -> list[npt.NDArray[np.float32]]:
        """Logits of all tokens of rows of one batch, in pieces that end at these places of the longest row."""
        longest = max(len(row) for row in rows)
        state = self.backend.new_state(len(rows), longest)
        self.backend.attach_images(state, prompts)
        parts: list[list[npt.NDArray[np.float32]]] = [[] for _ in rows]
        start = 0
        for stop in bounds:
            tokens = np.zeros((len(rows), stop - start), np.int64)
            for row, ids in enumerate(rows):
                tokens[row, : len(ids[start:stop])] = ids[start:stop]
            new = np.array([len(ids[start:stop]) for ids in rows], np.int64)
            logits = self.backend.forward(tokens, state, new_lengths=None if len(rows) == 1 else new, logits="all")
            for row, part in enumerate(parts):
                part.append(logits[row, : new[row]].copy())
            start = stop
        return [np.concatenate(part) for part in parts]


def shown_checks(exam: ShownExam) -> list[tuple[str, Callable[[], Check]]]:
    """Name and question of each check of logits, in their order."""
    what = exam.what
    return [
        *((f"{what}-prefill-{case.name}", lambda case=case: check_prefill(exam, case)) for case in exam.cases),
        (f"{what}-decode", lambda: check_decode(exam)),
        (f"{what}-chunks", lambda: check_chunks(exam)),
        (f"{what}-batch", lambda: check_batch(exam)),
        (f"{what}-order", lambda: check_order(exam)),
    ]


def compare_rows(exam: ShownExam, expected_rows: Callable[[Any], npt.NDArray[np.float32]]) -> Check:
    """Rows of features of the first piece of every prompt, in standard deviations of all of them."""
    largest, worst = 0.0, ""
    for case in exam.cases:
        expected = expected_rows(case.pieces[0])
        actual = exam.reader.features(case.pieces[0])
        error = np.inf
        if actual.shape == expected.shape:
            error = float(np.nan_to_num(np.abs(actual - expected).max() / expected.std(), nan=np.inf))
        if error >= largest:
            largest, worst = error, f"{case.name}: {actual.shape[0]} rows of {actual.shape[1]}"
    return Check(
        name=f"{exam.what}-features",
        passed=bool(largest <= exam.feature_error),
        value=largest,
        limit=exam.feature_error,
        unit="sd of the features",
        detail=f"The furthest is {worst}.",
    )


def check_tokens(exam: ShownExam) -> Check:
    """The tokens of every prompt, its marks expanded, and which of them see each other."""
    wrong = []
    for case in exam.cases:
        prompt, types = exam.prompt(case), exam.reference.types(case.text, case.pieces)
        same = prompt.token_ids == exam.reference.token_ids(case.text, case.pieces)
        if not same or (None if prompt.types is None else prompt.types.tolist()) != types:
            wrong.append(case.name)
    detail = f"Other tokens than the processor's for {', '.join(wrong)}." if wrong else "As the processor writes them."
    return Check(
        name=f"{exam.what}-tokens",
        passed=not wrong,
        value=len(wrong),
        limit=0,
        unit="prompts that differ",
        detail=detail,
    )


def check_prefill(exam: ShownExam, case: ShownCase) -> Check:
    """Logits at every position of a prompt with what is shown, and of tokens behind it, in one call."""
    errors = distances(exam.exam, exam.truth(case), exam.prefill(case), start=0, label=case.name)
    shown = f"{len(case.pieces)} {exam.what}{'s' if len(case.pieces) > 1 else ''}"
    return _judged(
        exam.exam, errors, f"{exam.what}-prefill-{case.name}", f"{len(errors)} tokens with {shown}, each compared."
    )


def check_decode(exam: ShownExam) -> Check:
    """The tokens behind a prompt one by one through the cache."""
    case = exam.cases[0]
    ids = [*exam.prompt(case).token_ids, *case.following]
    count = len(ids) - len(case.following)
    logits = exam.call([exam.prompt(case)], [ids], range(count, len(ids) + 1))[0]
    errors, judge = exam.compared(case, logits[count:], count)
    return _judged(judge, errors, f"{exam.what}-decode", f"{len(errors)} tokens one by one after {count}.")


def check_chunks(exam: ShownExam) -> Check:
    """A prompt cut within what is shown, or where its tokens see each other between them."""
    case = exam.cases[-1]
    ids = [*exam.prompt(case).token_ids, *case.following]
    bounds = sorted({exam.prompt(case).whole_until(stop) for stop in range(_CHUNK, len(ids), _CHUNK)} | {len(ids)})
    logits = exam.call([exam.prompt(case)], [ids], bounds)[0]
    errors, judge = exam.compared(case, logits)
    return _judged(judge, errors, f"{exam.what}-chunks", f"{len(ids)} tokens in {len(bounds)} calls.")


def check_batch(exam: ShownExam) -> Check:
    """Prompts with other images or recordings in one batch."""
    cases = exam.cases[:1] + exam.cases[-1:]
    rows = [[*exam.prompt(case).token_ids, *case.following] for case in cases]
    parts = exam.call([exam.prompt(case) for case in cases], rows, [max(len(row) for row in rows)])
    judge = exam.own
    errors = np.concatenate([exam.compared(case, part)[0] for case, part in zip(cases, parts, strict=True)])
    return _judged(
        judge, errors, f"{exam.what}-batch", f"{len(rows)} rows of {', '.join(str(len(row)) for row in rows)} tokens."
    )


def check_order(exam: ShownExam) -> Check:
    """That these checks see what is shown at all: two pieces exchanged give other logits."""
    case = exam.cases[-1]
    prompt = exam.prompt(case)
    ids = [*prompt.token_ids, *case.following]
    if len(case.pieces) > 1:
        rows = np.concatenate([exam.reader.features(piece) for piece in reversed(case.pieces)])
        detail = f"Two {exam.what}s exchanged give other logits, so that this would be seen."
    else:
        rows = np.ascontiguousarray(prompt.features[::-1])
        detail = "Rows of features in the other order give other logits, so that this would be seen."
    logits = exam.call([replace(prompt, features=rows)], [ids], [len(ids)])[0]
    # From what the candidate itself says: one that hears or sees nothing differs from the source, and not from this.
    errors = distances(exam.own, exam.prefill(case), logits, start=0, label=case.name)
    return differs(exam.own, errors, f"{exam.what}-order", detail)


def distances(
    exam: Exam, truth: npt.NDArray[np.float32], logits: npt.NDArray[np.float32], *, start: int, label: str
) -> Floats:
    """Errors of rows of logits, float64 [N], computed a block of rows at a time."""
    if truth.shape != logits.shape:
        raise ValueError(f"logits of shape {logits.shape} where {truth.shape} is expected")
    parts = [
        exam.distances(truth[rows], logits[rows], start=start + rows.start, label=label)
        for rows in row_blocks(*logits.shape)
    ]
    return np.concatenate(parts)


def differs(exam: Exam, errors: Floats, name: str, detail: str) -> Check:
    value, limit = float(errors.max()), _SEEN * exam.limit
    return Check(
        name=name, passed=bool(value > limit), value=value, limit=limit, unit=f"{exam.unit}, at least", detail=detail
    )


def _judged(exam: Exam, errors: Floats, name: str, detail: str) -> Check:
    passed, first = exam.passes(errors), exam.first_wrong(errors)
    if not passed and first is not None:
        detail = f"{detail} Position {first} of them differs first, by {errors[first]:.3g} {exam.unit}."
    return Check(name=name, passed=passed, value=exam.value(errors), limit=exam.limit, unit=exam.unit, detail=detail)


def fitting_cases(
    drafts: Sequence[tuple[str, str, Pieces]], reference: ShownReference, *, model: Any, vocab_size: int
) -> list[ShownCase]:
    """Those prompts, each of a name, a text and its pieces, that the model has room for; of one name the first."""
    longest = getattr(model.config.get_text_config(), "max_position_embeddings", None) or _MOST_TOKENS
    room = min(longest, _MOST_TOKENS, _LOGITS_BYTES // (4 * vocab_size)) - _STEPS
    random = np.random.default_rng(3)
    cases: dict[str, ShownCase] = {}
    counts = [len(reference.token_ids(text, pieces)) for _, text, pieces in drafts]
    for count, (name, text, pieces) in zip(counts, drafts, strict=True):
        # One of them in any case: the shortest.
        if (count <= room or count == min(counts) > room) and name not in cases:
            following = tuple(random.integers(3, vocab_size, _STEPS).tolist())
            cases[name] = ShownCase(name=name, text=text, pieces=pieces, following=following)
    return list(cases.values())
