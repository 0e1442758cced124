"""Checks of a model that reads images: pixels, marks, features, and logits behind images of several shapes.

Texts alone are judged as for any other decoder. Here the candidate's own reading of images, as its users have it, is
compared with the source's processor and the source's whole model.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.exam import Exam
from jisu.exporter.gate.result import Check
from jisu.exporter.gate.shown import (
    ShownExam,
    check_tokens,
    compare_rows,
    differs,
    feature_error,
    fitting_cases,
    shown_checks,
)
from jisu.exporter.gate.shown_reference import ShownReference
from jisu.exporter.precision.precision import FLOAT
from jisu.exporter.sources.image_processor import process_prompt

if TYPE_CHECKING:
    from jisu.exporter.contract.image_prompt import ImageBackend
    from jisu.exporter.sources.image_text import VisionSource


def image_exam(
    backend: ImageBackend,
    reader: Any,
    vision: VisionSource,
    exam: Exam,
    own: Exam,
    *,
    stored: str = FLOAT,
) -> ShownExam:
    """One candidate before its examiners: an image of each shape that it has room for, and two in one prompt.

    Args:
        reader: makes prompts of images as a user's engine does.
        exam: judges logits.
        own: judges what has a past: the source where the budget is strict, else the candidate's own prefill.
        stored: how the weights of what reads images are, as the manifest says it.
    """
    from jisu.exporter.sources.image_ways import made_images

    reference = image_reference(vision)
    mark, images = vision.settings.mark, made_images(image_edge(vision), seed=2)
    first, second = f"A picture: {mark} What is in it?", f"{mark} and then {mark} What has changed?"
    drafts = [(f"one-{number}", first, [image]) for number, image in enumerate(images)]
    drafts += [("two", second, [images[1], images[0]]), ("two", second, [images[3], images[1]])]
    unread = [image for image in images if not _read_by_source(vision, image)]
    # Where it reads none, the first says why.
    drafts = [draft for draft in drafts if not any(one is image for one in draft[2] for image in unread)] or drafts
    cases = fitting_cases(drafts, reference, model=vision.model, vocab_size=backend.vocab_size)
    limit = feature_error(stored)
    return ShownExam(
        backend, reader, what="image", reference=reference, cases=cases, exam=exam, own=own, feature_error=limit
    )


def image_reference(vision: VisionSource) -> ShownReference:
    """What the source says about prompts with images uint8 [H, W, 3]."""
    return ShownReference(
        vision.model,
        vision.processor,
        lambda text, images: process_prompt(vision.processor, text, images),
        vision.sight,
    )


def image_checks(exam: ShownExam, vision: VisionSource) -> list[tuple[str, Callable[[], Check]]]:
    """Name and question of each check, in their order."""
    return [
        ("image-pixels", lambda: check_pixels(exam, vision)),
        ("image-tokens", lambda: check_tokens(exam)),
        ("image-features", lambda: check_features(exam, vision)),
        *shown_checks(exam),
        *([] if vision.sight is None else [("image-sight", lambda: check_sight(exam))]),
    ]


def check_features(exam: ShownExam, vision: VisionSource) -> Check:
    """Rows of features of the first image of every prompt."""
    from jisu.exporter.tracing.trace_images import source_features

    return compare_rows(exam, lambda image: source_features(vision, image))


def check_pixels(exam: ShownExam, vision: VisionSource) -> Check:
    """Arrays of images of several shapes and modes, which have to be the processor's to the last bit."""
    from PIL import Image

    from jisu.exporter.sources.image_processor import process_image
    from jisu.exporter.sources.image_ways import PIXELS, made_images

    wrong = []
    pictures = [Image.fromarray(one) for one in made_images(image_edge(vision), seed=1)]
    if vision.settings.settings.get("do_convert_rgb"):
        pictures += [pictures[0].convert("L"), _with_alpha(pictures[1]), pictures[2].convert("CMYK")]
    largest = 0.0
    for picture in pictures:
        expected = process_image(vision.processor, picture).arrays[PIXELS]
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


def check_sight(exam: ShownExam) -> Check:
    """That these checks see which tokens see each other: other logits where each sees only those before it."""
    case = exam.cases[-1]
    prompt = exam.prompt(case)
    ids = [*prompt.token_ids, *case.following]
    logits = exam.call([replace(prompt, types=None)], [ids], [len(ids)])[0]
    errors, judge = exam.compared(case, logits)
    detail = "Tokens that see no later ones give other logits, so that a mask of that kind would be seen."
    return differs(judge, errors, "image-sight", detail)


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
