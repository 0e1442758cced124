"""The gate: every check in its order, and a verdict that names what differed first.

It sees the exported model only as a backend and the truth only as a reference. Whatever a candidate does, raising
included, ends in a verdict: a graph that cannot be run is rejected like one that is wrong.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import JisuError
from jisu.exporter.gate.cache import check_chunks, check_decode, check_rewind
from jisu.exporter.gate.domain_quality import DomainQuality, domain_checks, first_windows, measure_domains
from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.gate.exam import Exam, OwnPrefill, Truth
from jisu.exporter.gate.greedy import check_greedy
from jisu.exporter.gate.positions import FAR, RANGE, check_far
from jisu.exporter.gate.prefill import check_batch, check_prefill, check_rows_alone, check_sequence
from jisu.exporter.gate.prompts import GatePrompts
from jisu.exporter.gate.reference import prepare_truth
from jisu.exporter.gate.result import Check, GateResult
from jisu.exporter.gate.wide_batch import ROWS, check_wide_batch
from jisu.exporter.jobs.free_memory import give_back_freed
from jisu.exporter.precision.budget import Budget

if TYPE_CHECKING:
    from jisu.exporter.contract.backend import Backend
    from jisu.exporter.gate.reference import Reference

Step = tuple[str, Callable[[], "Check | list[Check]"]]
Progress = Callable[[str, int, int], None]
_SOURCE = "the source's pass over the layers"
# What checks take of the time in which a model of half a billion parameters is verified; of others next to nothing.
_SHARES = {
    _SOURCE: 40,
    f"batch-{ROWS}": 10,
    "decode": 3,
    "chunked-prefill": 3,
    FAR: 5,
    "greedy": 10,
    "quality": 25,
    RANGE: 8,
    "tokenizer": 3,
}
_PARTS = 10  # of a share of 1


def run_gate(
    backend: Backend,
    reference: Reference,
    *,
    prompts: GatePrompts,
    budget: Budget,
    tokenizer_check: Callable[[], Sequence[Check]] | None = None,
    locate: Callable[[TokenIds], str | None] | None = None,
    whole_range: Callable[[Exam], list[Check]] | None = None,
    further: Callable[[Exam, Exam], list[Step]] | None = None,
    progress: Progress | None = None,
) -> GateResult:
    """Judge a candidate.

    Args:
        tokenizer_check: makes the checks of tokenizer and chat template, which are not the graph's.
        locate: asked after a failure of the computation (not of the cache alone) which layer differs first, given the
            tokens of the failing prompt, int64 [T]; answers a sentence, or None when it cannot tell.
        whole_range: asks places of the model's range with a made past, where that can be.
        further: questions of a kind of model of its own, asked behind the others, of the two exams: against the source,
            and of what has a past.
        progress: called with the name of what starts, and how much of the time is over, of how much.

    Returns:
        All checks, failed ones included; one failure does not stop the others.
    """
    exam = Exam(backend=backend, truth=Truth(reference), prompts=prompts, budget=budget)
    past = _exam_with_past(exam)
    vocabulary = _check_vocabulary(backend, reference)
    measured: list[DomainQuality] = []

    def scored(done: int, windows: int) -> None:
        report("quality", done, windows)

    steps = _steps(exam, past, tokenizer_check, whole_range, measured, scored) if vocabulary.passed else []
    if steps and further is not None:
        steps += further(exam, past)
    # A reference that is asked check by check takes its time within them.
    names = [_SOURCE] * hasattr(reference, "prepare") + [name for name, _ in steps]
    report = _shared(progress, names)
    if steps and hasattr(reference, "prepare"):
        exam.rest()  # a large candidate is not in memory while its source reads everything
        prepare_truth(reference, _sequences(prompts, budget), partial(report, _SOURCE))
    checks: list[Check] = []
    for name, ask in steps:
        report(name, 0, 1)
        checks.extend(run_check(name, ask))
        give_back_freed()
    if vocabulary.passed:
        checks.insert(0, _check_finite(exam, past))
    where = located(locate, exam.failing_tokens if exam.failing_tokens is not None else past.failing_tokens)
    return GateResult(
        checks=(vocabulary, *checks),
        reference=f"{reference.description}; {prompts.text}",
        where=where,
        notes=measured[0].notes if measured else (),
        quality=measured[0].to_dict() if measured else {},
    )


def _shared(progress: Progress | None, names: Sequence[str]) -> Progress:
    """Report parts of steps as parts of the time that all of them take.

    Returns:
        a function of a step's name, its parts done and their number.
    """
    shares = [_PARTS * _SHARES.get(name, 0) + 1 for name in names]

    def report(name: str, done: int, parts: int) -> None:
        if progress is not None and name in names:
            number = names.index(name)
            progress(name, sum(shares[:number]) + shares[number] * done // parts, sum(shares))

    return report


def _sequences(prompts: GatePrompts, budget: Budget) -> list[TokenIds]:
    """What the source will be asked, but for what follows from the candidate's answers."""
    sequences = [prompts.sequence, *(sequence for _, sequence in prompts.further), *prompts.rows]
    if prompts.far is not None:
        sequences.append(prompts.far)
    return [*sequences, *first_windows(prompts.judged)] if budget.judges_quality else sequences


def _steps(
    exam: Exam,
    past: Exam,
    tokenizer_check: Callable[[], Sequence[Check]] | None,
    whole_range: Callable[[Exam], list[Check]] | None,
    measured: list[DomainQuality],
    scored: Callable[[int, int], None],
) -> list[Step]:
    prompts, budget = exam.prompts, exam.budget
    steps: list[Step] = [
        (f"prefill-{length}", partial(check_prefill, exam, length)) for length in prompts.prefill_lengths
    ]
    steps += [(name, partial(check_sequence, exam, name, sequence)) for name, sequence in prompts.further]
    steps += [
        ("batch-1", partial(check_rows_alone, exam)),
        (f"batch-{len(prompts.rows)}", partial(check_batch, past)),
        (f"batch-{ROWS}", partial(check_wide_batch, past)),
        ("decode", partial(check_decode, past)),
        ("chunked-prefill", partial(check_chunks, past)),
    ]
    if prompts.far is not None:
        own = past if past is not exam and prompts.rewinds else None
        steps.append((FAR, partial(check_far, exam, prompts.far, own)))
    if prompts.rewinds:
        steps.append(("rewind", partial(check_rewind, past)))
    if budget.same_greedy_tokens:
        steps.append(("greedy", partial(check_greedy, exam)))
    if budget.judges_quality:
        steps.append(("quality", partial(_check_quality, exam, past, measured, scored)))
    if whole_range is not None:  # the last one to run the candidate, whose memory it may take
        steps.append((RANGE, partial(whole_range, exam)))
    if tokenizer_check is not None:
        steps.append(("tokenizer", lambda: list(tokenizer_check())))
    return steps


def run_check(name: str, ask: Callable[[], Check | list[Check]]) -> list[Check]:
    try:
        answer = ask()
    except MemoryError:
        raise  # says nothing about the candidate
    except Exception as error:  # noqa: BLE001 - any runtime may raise anything, and all of it means "cannot be run"
        message = str(error) if isinstance(error, JisuError) else f"{type(error).__name__}: {error}"
        detail = f"It could not be run. {message}"
        return [Check(name=name, passed=False, value=None, limit=None, unit="", detail=detail)]
    return answer if isinstance(answer, list) else [answer]


def _check_vocabulary(backend: Backend, reference: Reference) -> Check:
    ours, theirs = backend.vocab_size, reference.vocab_size
    detail = f"{ours} logits per token." if ours == theirs else f"{ours} logits per token; the source has {theirs}."
    return Check(name="vocabulary", passed=ours == theirs, value=ours, limit=theirs, unit="tokens", detail=detail)


def _exam_with_past(exam: Exam) -> Exam:
    """Who judges batches and caches: strictly the source; with reduced precision the candidate's own prefill."""
    if exam.budget.max_logit_error is not None:
        return exam
    own = Truth(OwnPrefill(exam.backend))
    return Exam(backend=exam.backend, truth=own, prompts=exam.prompts, budget=exam.budget, against_itself=True)


def _check_finite(exam: Exam, past: Exam) -> Check:
    count = exam.nonfinite + (past.nonfinite if past is not exam else 0)
    first = exam.first_nonfinite or past.first_nonfinite
    if exam.truth.nonfinite is not None:
        detail = f"The source itself gives logits that are not finite, first in {exam.truth.nonfinite}."
    elif first is not None:
        detail = f"NaN or infinity among the logits, first in {first}."
    else:
        detail = "Every logit that was compared is finite."
    passed = count == 0 and exam.truth.nonfinite is None
    return Check(name="finite", passed=passed, value=count, limit=0, unit="logits", detail=detail)


def _check_quality(
    exam: Exam, past: Exam, measured: list[DomainQuality], scored: Callable[[int, int], None]
) -> list[Check]:
    past.truth.forget()
    exam.truth.forget()  # the windows are other tokens, and their logits need the room
    reference, judged = exam.truth.reference, exam.prompts.judged
    measured.append(measure_domains(exam.backend, reference, judged, exam.budget, progress=scored))
    return domain_checks(measured[0], exam.budget)


def located(locate: Callable[[TokenIds], str | None] | None, tokens: TokenIds | None) -> str | None:
    if locate is None or tokens is None:
        return None
    try:
        return locate(tokens)
    except Exception as error:  # noqa: BLE001 - looking for the layer must never hide the failure itself
        return f"(The layer could not be looked for: {type(error).__name__}: {error})"
