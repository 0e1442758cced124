"""Checks of a model that reads images: pixels, marks, features, and logits behind images of several shapes.

Texts alone are judged as for any other decoder. Here the candidate's own reading of images, as its users have it, is
compared with the source's processor and the source's whole model.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.exam import Exam, Floats
from jisu.exporter.gate.image_reference import ImageReference, Pictures
from jisu.exporter.gate.quality import row_blocks
from jisu.exporter.gate.result import Check
from jisu.exporter.precision.precision import FLOAT

if TYPE_CHECKING:
    from jisu.exporter.contract.image_prompt import ImageBackend, ImagePrompt
    from jisu.exporter.sources.image_text import VisionSource

# Largest difference of a feature, in standard deviations of all of them: ONNX Runtime differs from torch by 1e-5 after
# 27 layers, and a transposed, dropped or exchanged part by about one.
FEATURE_ERROR = 2e-3
# The same where weights are rounded. On 12 layers of 768 with random weights it is 1e-3 in float16, 0.035 in 8 bits.
_ROUNDED_ERRORS = {FLOAT: FEATURE_ERROR, "float16": 2e-2, "bfloat16": 1.5e-1}
_INTEGER_ERROR = 0.3
# Logits of two images in the other order differ from the right ones by at least so many times the limit, or what reads
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
class ImageCase:
    """A prompt with images, and how the source continues it.

    Attributes:
        text: with a mark for each image.
        following: tokens behind the prompt, which are given to both.
    """

    name: str
    text: str
    images: Pictures
    following: tuple[int, ...]


class ImageExam:
    """One candidate before its examiners.

    Args:
        reader: makes prompts of images as a user's engine does.
        exam: judges logits.
        own: judges what has a past: the source where the budget is strict, else the candidate's own prefill.
        feature_error: largest difference of a feature, in standard deviations of all of them.
    """

    def __init__(
        self,
        backend: ImageBackend,
        reader: Any,
        vision: VisionSource,
        exam: Exam,
        own: Exam,
        *,
        feature_error: float = FEATURE_ERROR,
    ) -> None:
        self.feature_error = feature_error
        self.backend, self.reader, self.vision = backend, reader, vision
        self.exam, self.own = exam, own
        self.reference = ImageReference(vision)
        self.cases = _cases(self.reference, vision, vocab_size=backend.vocab_size)
        self._truth: dict[str, npt.NDArray[np.float32]] = {}
        self._prompts: dict[str, ImagePrompt] = {}
        self._prefills: dict[str, npt.NDArray[np.float32]] = {}

    def truth(self, case: ImageCase) -> npt.NDArray[np.float32]:
        if case.name not in self._truth:
            self._forget_but(self._truth)
            self._truth[case.name] = self.reference.logits(case.text, case.images, case.following)
        return self._truth[case.name]

    def prompt(self, case: ImageCase) -> ImagePrompt:
        if case.name not in self._prompts:
            self._prompts[case.name] = self.reader.prompt(case.text, case.images, chat=False)
        return self._prompts[case.name]

    def prefill(self, case: ImageCase) -> npt.NDArray[np.float32]:
        """The candidate's logits over prompt and following tokens in one call."""
        if case.name not in self._prefills:
            self._forget_but(self._prefills)
            ids = [*self.prompt(case).token_ids, *case.following]
            self._prefills[case.name] = self.call([self.prompt(case)], [ids], [len(ids)])[0]
        return self._prefills[case.name]

    def compared(self, case: ImageCase, logits: npt.NDArray[np.float32], start: int = 0) -> tuple[Floats, Exam]:
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


def image_checks(exam: ImageExam) -> list[tuple[str, Callable[[], Check]]]:
    """Name and question of each check, in their order."""
    return [
        ("image-pixels", lambda: check_pixels(exam)),
        ("image-tokens", lambda: check_tokens(exam)),
        ("image-features", lambda: check_features(exam)),
        *((f"image-prefill-{case.name}", lambda case=case: check_prefill(exam, case)) for case in exam.cases),
        ("image-decode", lambda: check_decode(exam)),
        ("image-chunks", lambda: check_chunks(exam)),
        ("image-batch", lambda: check_batch(exam)),
        ("image-order", lambda: check_order(exam)),
        *([] if exam.vision.sight is None else [("image-sight", lambda: check_sight(exam))]),
    ]


def check_pixels(exam: ImageExam) -> Check:
    """Arrays of images of several shapes and modes, which have to be the processor's to the last bit."""
    from PIL import Image

    from jisu.exporter.sources.image_processor import process_image
    from jisu.exporter.sources.image_ways import PIXELS, made_images

    wrong = []
    pictures = [Image.fromarray(one) for one in made_images(image_edge(exam.vision), seed=1)]
    if exam.vision.settings.settings.get("do_convert_rgb"):
        pictures += [pictures[0].convert("L"), _with_alpha(pictures[1]), pictures[2].convert("CMYK")]
    largest = 0.0
    for picture in pictures:
        expected = process_image(exam.vision.processor, picture).arrays[PIXELS]
        actual = exam.reader.prepared(picture, name="image").inputs[PIXELS]
        expected = expected[0] if expected.ndim == 5 else expected
        same = actual.shape == expected.shape
        error = float(np.abs(actual.astype(np.float64) - expected).max()) if same else np.inf
        largest = max(largest, error)
        if error:
            wrong.append(f"{picture.mode} {picture.width} x {picture.height}")
    modes = ", ".join(dict.fromkeys(picture.mode for picture in pictures))
    detail = f"{len(pictures)} images of several shapes: {modes}."
    if wrong:
        detail = f"Other pixels than the processor's for {', '.join(wrong)}."
    return Check(name="image-pixels", passed=not wrong, value=largest, limit=0, unit="of a pixel", detail=detail)


def check_tokens(exam: ImageExam) -> Check:
    """The tokens of every prompt, image marks expanded, and which of them see each other."""
    wrong = []
    for case in exam.cases:
        prompt, types = exam.prompt(case), exam.reference.types(case.text, case.images)
        same = prompt.token_ids == exam.reference.token_ids(case.text, case.images)
        if not same or (None if prompt.types is None else prompt.types.tolist()) != types:
            wrong.append(case.name)
    detail = f"Other tokens than the processor's for {', '.join(wrong)}." if wrong else "As the processor writes them."
    return Check(
        name="image-tokens", passed=not wrong, value=len(wrong), limit=0, unit="prompts that differ", detail=detail
    )


def check_features(exam: ImageExam) -> Check:
    """Rows of features of the first image of every prompt."""
    from jisu.exporter.tracing.trace_images import source_features

    largest, worst = 0.0, ""
    for case in exam.cases:
        expected = source_features(exam.vision, case.images[0])
        actual = exam.reader.features(case.images[0])
        error = np.inf
        if actual.shape == expected.shape:
            error = float(np.nan_to_num(np.abs(actual - expected).max() / expected.std(), nan=np.inf))
        if error >= largest:
            largest, worst = error, f"{case.name}: {actual.shape[0]} rows of {actual.shape[1]}"
    passed = bool(largest <= exam.feature_error)
    return Check(
        name="image-features",
        passed=passed,
        value=largest,
        limit=exam.feature_error,
        unit="sd of the features",
        detail=f"The furthest is {worst}.",
    )


def check_prefill(exam: ImageExam, case: ImageCase) -> Check:
    """Logits at every position of a prompt with images, and of tokens behind it, in one call."""
    errors = distances(exam.exam, exam.truth(case), exam.prefill(case), start=0, label=case.name)
    images = f"{len(case.images)} image{'s' if len(case.images) > 1 else ''}"
    return _judged(
        exam.exam, errors, f"image-prefill-{case.name}", f"{len(errors)} tokens with {images}, each compared."
    )


def check_decode(exam: ImageExam) -> Check:
    """The tokens behind a prompt one by one through the cache."""
    case = exam.cases[0]
    ids = [*exam.prompt(case).token_ids, *case.following]
    count = len(ids) - len(case.following)
    logits = exam.call([exam.prompt(case)], [ids], range(count, len(ids) + 1))[0]
    errors, judge = exam.compared(case, logits[count:], count)
    return _judged(judge, errors, "image-decode", f"{len(errors)} tokens one by one after {count}.")


def check_chunks(exam: ImageExam) -> Check:
    """A prompt cut within its images, or where its tokens see each other between them."""
    case = exam.cases[-1]
    ids = [*exam.prompt(case).token_ids, *case.following]
    bounds = sorted({exam.prompt(case).whole_until(stop) for stop in range(_CHUNK, len(ids), _CHUNK)} | {len(ids)})
    logits = exam.call([exam.prompt(case)], [ids], bounds)[0]
    errors, judge = exam.compared(case, logits)
    return _judged(judge, errors, "image-chunks", f"{len(ids)} tokens in {len(bounds)} calls.")


def check_batch(exam: ImageExam) -> Check:
    """Prompts with other images in one batch."""
    cases = exam.cases[:1] + exam.cases[-1:]
    rows = [[*exam.prompt(case).token_ids, *case.following] for case in cases]
    parts = exam.call([exam.prompt(case) for case in cases], rows, [max(len(row) for row in rows)])
    judge = exam.own
    errors = np.concatenate([exam.compared(case, part)[0] for case, part in zip(cases, parts, strict=True)])
    return _judged(
        judge, errors, "image-batch", f"{len(rows)} rows of {', '.join(str(len(row)) for row in rows)} tokens."
    )


def check_order(exam: ImageExam) -> Check:
    """That these checks see images at all: two of them exchanged give other logits."""
    case = exam.cases[-1]
    prompt = exam.prompt(case)
    ids = [*prompt.token_ids, *case.following]
    exchanged = replace(prompt, features=np.ascontiguousarray(prompt.features[::-1]))
    logits = exam.call([exchanged], [ids], [len(ids)])[0]
    errors, judge = exam.compared(case, logits)
    detail = "Rows of features in the other order give other logits, so that a wrong order would be seen."
    return _differs(judge, errors, "image-order", detail)


def check_sight(exam: ImageExam) -> Check:
    """That these checks see which tokens see each other: other logits where each sees only those before it."""
    case = exam.cases[-1]
    prompt = exam.prompt(case)
    ids = [*prompt.token_ids, *case.following]
    logits = exam.call([replace(prompt, types=None)], [ids], [len(ids)])[0]
    errors, judge = exam.compared(case, logits)
    detail = "Tokens that see no later ones give other logits, so that a mask of that kind would be seen."
    return _differs(judge, errors, "image-sight", detail)


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


def _differs(exam: Exam, errors: Floats, name: str, detail: str) -> Check:
    value, limit = float(errors.max()), _SEEN * exam.limit
    return Check(
        name=name, passed=bool(value > limit), value=value, limit=limit, unit=f"{exam.unit}, at least", detail=detail
    )


def _judged(exam: Exam, errors: Floats, name: str, detail: str) -> Check:
    passed, first = exam.passes(errors), exam.first_wrong(errors)
    if not passed and first is not None:
        detail = f"{detail} Position {first} of them differs first, by {errors[first]:.3g} {exam.unit}."
    return Check(name=name, passed=passed, value=exam.value(errors), limit=exam.limit, unit=exam.unit, detail=detail)


def _cases(reference: ImageReference, vision: VisionSource, *, vocab_size: int) -> list[ImageCase]:
    """One image of each shape whose prompt the model has room for, and two in one prompt."""
    from jisu.exporter.sources.image_ways import made_images

    mark, images = vision.settings.mark, made_images(image_edge(vision), seed=2)
    longest = getattr(vision.model.config.get_text_config(), "max_position_embeddings", None) or _MOST_TOKENS
    room = min(longest, _MOST_TOKENS, _LOGITS_BYTES // (4 * vocab_size)) - _STEPS
    random = np.random.default_rng(3)
    first, second = f"A picture: {mark} What is in it?", f"{mark} and then {mark} What has changed?"
    drafts = [(f"one-{number}", first, [image]) for number, image in enumerate(images)]
    drafts += [("two", second, [images[1], images[0]]), ("two", second, [images[3], images[1]])]
    unread = [image for image in images if not _read_by_source(vision, image)]
    drafts = [draft for draft in drafts if not any(one is image for one in draft[2] for image in unread)]
    cases: dict[str, ImageCase] = {}
    counts = [len(reference.token_ids(text, pictures)) for _, text, pictures in drafts]
    for count, (name, text, pictures) in zip(counts, drafts, strict=True):
        # One of them in any case: the shortest.
        if (count <= room or count == min(counts) > room) and name not in cases:
            following = tuple(random.integers(3, vocab_size, _STEPS).tolist())
            cases[name] = ImageCase(name=name, text=text, images=pictures, following=following)
    return list(cases.values())


def _read_by_source(vision: VisionSource, image: npt.NDArray[np.uint8]) -> bool:
    """Whether the model itself reads an image: some fail on those that become a single token (transformers 5.23)."""
    from jisu.exporter.tracing.trace_images import source_features

    try:
        source_features(vision, image)
    except (RuntimeError, ValueError, IndexError):
        return False
    return True


def image_edge(vision: VisionSource) -> int:
    """About the edge of what such a model reads, so that small models are asked about small images."""
    from jisu.exporter.sources.image_ways import edge_of

    return edge_of(vision.processor)


def _with_alpha(picture: Any) -> Any:
    from PIL import Image

    alpha = np.linspace(0, 255, picture.width * picture.height).reshape(picture.height, picture.width)
    changed = picture.copy()
    changed.putalpha(Image.fromarray(alpha.astype(np.uint8)))
    return changed
