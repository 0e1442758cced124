"""Checks of a model that reads recordings beside texts: features, their lengths, tokens, and logits behind recordings.

Texts alone are judged as for any other decoder. Here the candidate's own reading of recordings, as its users have it,
is compared with the source's processor and the source's whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.gate.exam import Exam
from jisu.exporter.gate.recordings import Recording, gate_recordings, voice
from jisu.exporter.gate.result import Check
from jisu.exporter.gate.shown import (
    ShownExam,
    check_tokens,
    compare_rows,
    feature_error,
    fitting_cases,
    shown_checks,
)
from jisu.exporter.gate.shown_reference import ShownReference
from jisu.exporter.gate.speech import CLOSE, UNIT
from jisu.exporter.precision.precision import FLOAT

if TYPE_CHECKING:
    from jisu.exporter.contract.image_prompt import RecordingBackend
    from jisu.exporter.sources.audio_text import HearingSource

_FIRST, _SECOND = "A recording: {mark} What is said?", "{mark} and then {mark} What has changed?"
# Lengths that are counted, in frames: around the steps of convolutions and poolings, which a wrong count misses.
# Of a recording that has several windows of rows.
_SEVERAL = 0.87
_FRAMES = (1, 2, 3, 7, 8, 9, 16, 23, 41, 64, 97)


def hearing_exam(
    backend: RecordingBackend, reader: Any, hearing: HearingSource, exam: Exam, own: Exam, *, stored: str = FLOAT
) -> ShownExam:
    """One candidate before its examiners: each recording that it has room for, and two in one prompt.

    Args:
        reader: makes prompts of recordings as a user's engine does.
        exam: judges logits.
        own: judges what has a past: the source where the budget is strict, else the candidate's own prefill.
        stored: how the weights of what hears are, as the manifest says it.
    """
    reference = recording_reference(hearing)
    recordings = asked_about(hearing)
    first, second = (text.format(mark=hearing.settings.mark) for text in (_FIRST, _SECOND))
    by_name = {one.name: one.samples for one in recordings}
    drafts = [(one.name, first, [one.samples]) for one in recordings]
    several = hearing.settings.most is None
    drafts += [
        ("two", second, [by_name["voice"], by_name["high-voice"]]),
        ("two", second, [by_name["tone"], by_name["high-voice"]]),
        ("two", second, [by_name["short"], by_name["tone"][: len(by_name["tone"]) // 3]]),
    ][: None if several else 0]
    cases = fitting_cases(drafts, reference, model=hearing.model, vocab_size=backend.vocab_size)
    limit = feature_error(stored)
    return ShownExam(
        backend, reader, what="recording", reference=reference, cases=cases, exam=exam, own=own, feature_error=limit
    )


def recording_reference(hearing: HearingSource) -> ShownReference:
    """What the source says about prompts with recordings."""
    return ShownReference(hearing.model, hearing.processor, hearing.inputs)


def asked_about(hearing: HearingSource) -> tuple[Recording, ...]:
    """The gate's recordings, one longer than a window where the model hears such; none that is too long for it."""
    audio, longest = hearing.audio.settings, hearing.settings.longest
    recordings = gate_recordings(audio.sampling_rate, audio.window)
    if audio.window is not None and (longest is None or longest > audio.window):
        (begun,) = (one.samples for one in recordings if one.name == "voice")
        whole = np.concatenate([begun, *(one.samples for one in recordings if one.name == "whole-window")])
        recordings = (*recordings, Recording(name="more-than-a-window", samples=whole))
    if hearing.windows is not None:
        samples = voice(audio.sampling_rate, _SEVERAL * hearing.windows.seconds, seed=7, pitch=120.0)
        recordings = (*recordings, Recording(name="several-windows", samples=samples))
    return tuple(one for one in recordings if longest is None or len(one.samples) <= longest)


def hearing_checks(exam: ShownExam, hearing: HearingSource) -> list[tuple[str, Callable[[], Check]]]:
    """Name and question of each check, in their order."""
    return [
        ("recording-sound", lambda: check_sound(exam, hearing)),
        ("recording-lengths", lambda: check_lengths(exam, hearing)),
        ("recording-tokens", lambda: check_tokens(exam)),
        ("recording-features", lambda: compare_rows(exam, hearing.rows)),
        *shown_checks(exam),
    ]


def check_sound(exam: ShownExam, hearing: HearingSource) -> Check:
    """What the graph that hears is given of each recording: features as close as sums are, and the same mask."""
    name = hearing.audio.settings.input_name
    largest, worst = 0.0, ""
    for recording in asked_about(hearing):
        expected = hearing.arrays(recording.samples)
        actual = exam.reader.inputs(recording.samples)
        error = np.inf
        same = {key: array.shape for key, array in expected.items()} == {
            key: array.shape for key, array in actual.items()
        }
        if same and all(np.array_equal(actual[key], array) for key, array in expected.items() if key != name):
            spread = max(float(expected[name].std()), 1e-6)
            error = float(np.abs(actual[name].astype(np.float64) - expected[name]).max()) / spread
        if not error <= largest:
            largest, worst = error, recording.name
    return Check(
        name="recording-sound",
        passed=bool(largest <= CLOSE),
        value=largest,
        limit=CLOSE,
        unit=UNIT,
        detail=f"The furthest is {worst}." if worst else "As the processor makes them.",
    )


def check_lengths(exam: ShownExam, hearing: HearingSource) -> Check:
    """How many tokens recordings of many lengths become."""
    audio, mark = hearing.audio.settings, hearing.settings.mark
    lengths = [frames * audio.hop + off for frames in _FRAMES for off in (0, 1)]
    window, longest = audio.window, hearing.settings.longest
    if window is not None:
        lengths += [window - 1, window, *(window + frames * audio.hop + 1 for frames in (0, 1, 2, 5)), 2 * window]
    if hearing.settings.multiple > 1:
        chunk = hearing.settings.multiple * audio.hop
        lengths += [count * chunk + off for count in (1, 2) for off in (-1, 0, 1, audio.hop + 1)]
    lengths = [one for one in lengths if one >= (audio.shortest if window is None else 1) and one <= (longest or one)]
    wrong = []
    for samples in _noises(lengths):
        expected = _shown(exam.reference.token_ids(mark, [samples]), hearing)
        # Not as a user's recording, of which at least one token has to be heard.
        if len(exam.reader.rows(samples)) != expected:
            wrong.append(f"{len(samples)} samples")
    detail = f"{len(lengths)} lengths, from {lengths[0]} to {lengths[-1]} samples."
    if wrong:
        detail = f"Other numbers of tokens than the processor's for {', '.join(wrong)}."
    return Check(name="recording-lengths", passed=not wrong, value=len(wrong), limit=0, unit="lengths", detail=detail)


def _noises(lengths: Sequence[int]) -> list[Any]:
    random = np.random.default_rng(4)
    return [np.asarray(random.normal(0, 0.1, length), np.float32) for length in lengths]


def _shown(ids: Sequence[int], hearing: HearingSource) -> int:
    return sum(token == hearing.settings.audio_token for token in ids)
