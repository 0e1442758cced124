"""Finds out which way of preparing images does what a checkpoint's processor does, by trying each on made images.

There is no list of processors: a way fits when its pixels are the processor's to the last bit, for images of several
shapes, and its marks the processor's text. A processor that no way reproduces is refused by its name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.image_settings import ImageSettings
from jisu.exporter.sources.image_processor import ProcessedImage, process_image

if TYPE_CHECKING:
    from jisu.runtimes.images.preparation import Prepared

PIXELS = "pixel_values"
# Height and width in shares of the edge that a model reads: wide, high, square, small, large, odd.
_SHAPES = ((1.0, 1.0), (0.4, 1.3), (2.3, 0.9), (0.31, 0.29), (3.1, 4.7), (1.0, 6.1))
_EDGE, _SMALL_EDGE = 336, 64
_LIMITS = (24, 1500)


def made_images(edge: int = _EDGE, *, seed: int = 0) -> list[npt.NDArray[np.uint8]]:
    """Images of several shapes with edges and gradients in them, uint8 [H, W, 3]; the same for a seed."""
    random = np.random.default_rng(seed)
    images = []
    for high, wide in _SHAPES:
        height, width = (min(max(round(edge * share) | 1, _LIMITS[0]), _LIMITS[1]) for share in (high, wide))
        rows, columns = np.linspace(0, 255, height)[:, None], np.linspace(0, 255, width)[None, :]
        planes = np.stack([rows + 0 * columns, columns + 0 * rows, (rows * 3 + columns * 5) % 256], axis=-1)
        images.append(np.clip(planes + random.normal(0, 24, planes.shape), 0, 255).astype(np.uint8))
    return images


def find_way(processor: Any, checkpoint: Path, *, image_token: int) -> ImageSettings:
    """The preparation and the marks that reproduce a processor; raises InputError where none does."""
    from jisu.runtimes.images.ways import PREPARATIONS

    _check_arrays(processor, checkpoint)
    images = made_images(edge_of(processor))
    expected = [process_image(processor, image) for image in images]
    preparation = _preparation_of(images, expected)
    if preparation is None:
        raise _refusal(processor, checkpoint, "pixels that no way of preparing images gives", ", ".join(PREPARATIONS))
    prepare = PREPARATIONS[preparation]
    prepared = [prepare(image, known.settings) for image, known in zip(images, expected, strict=True)]
    token = _text_of(processor, image_token, checkpoint)
    marks = _marks_of(token, prepared, [one.text for one in expected])
    if marks is None:
        raise _refusal(
            processor,
            checkpoint,
            f"a text of its own for an image: {expected[1].text[:80]}",
            "run, lines, tiles, numbered tiles",
        )
    mark = str(processor.image_token)
    if len(processor.tokenizer.encode(mark, add_special_tokens=False)) != 1:
        raise _refusal(processor, checkpoint, f"the mark {mark!r}, which is no token", "a mark of one token")
    return ImageSettings(
        preparation=preparation,
        settings={key: value for key, value in expected[0].settings.items() if value is not None},
        marks=marks,
        mark=mark,
        image_token=image_token,
    )


def _check_arrays(processor: Any, checkpoint: Path) -> None:
    arrays = process_image(processor, made_images(_SMALL_EDGE)[0]).arrays
    if PIXELS not in arrays:
        raise _refusal(processor, checkpoint, f"an image in {', '.join(sorted(arrays))}", f"an image in {PIXELS}")


def _preparation_of(images: Sequence[npt.NDArray[np.uint8]], expected: Sequence[ProcessedImage]) -> str | None:
    """The first way whose pixels are the processor's for every image."""
    from jisu.runtimes.images.ways import PREPARATIONS

    for name, prepare in PREPARATIONS.items():
        try:
            prepared = [prepare(image, known.settings) for image, known in zip(images, expected, strict=True)]
        except Exception:  # noqa: BLE001 - settings of another way
            continue
        if all(same_pixels(ours, theirs) for ours, theirs in zip(prepared, expected, strict=True)):
            return name
    return None


def same_pixels(prepared: Prepared, expected: ProcessedImage) -> bool:
    """Whether the arrays that a way and a processor made of an image are the same numbers."""
    ours, theirs = prepared.inputs[PIXELS], expected.arrays[PIXELS]
    if theirs.ndim == 5:  # of the prompts' batch
        theirs = theirs[0]
    return ours.shape == theirs.shape and bool(np.array_equal(ours, theirs))


def edge_of(processor: Any) -> int:
    """About the edge of what the processor makes, so that small models are tried with small images."""
    arrays = process_image(processor, made_images(_SMALL_EDGE)[0]).arrays[PIXELS]
    return int(arrays.shape[-1]) if arrays.ndim >= 4 else _EDGE


def _text_of(processor: Any, token: int, checkpoint: Path) -> str:
    text = processor.tokenizer.convert_ids_to_tokens(token)
    if not isinstance(text, str):
        raise _refusal(processor, checkpoint, f"no text for the image token {token}", "a token of the tokenizer")
    return text


def _refusal(processor: Any, checkpoint: Path, received: str, allowed: str) -> InputError:
    kind = type(processor).__name__
    images = type(processor.image_processor).__name__
    return InputError(
        f"The processor of {checkpoint}, {kind} with {images}, cannot be reproduced without transformers",
        received=received,
        allowed=allowed,
        fix="Choose a model whose images are prepared in one of these ways.",
    )


def _marks_of(token: str, prepared: Sequence[Prepared], texts: Sequence[str]) -> dict[str, Any] | None:
    """The first rule that gives the processor's text for every image."""
    from jisu.runtimes.images.marks import marked_text

    counts = [text.count(token) for text in texts]
    for guess in (_as_run, _as_lines, _as_tiles, _as_numbered):
        marks = guess(token, prepared, texts)
        if marks is None:
            continue
        made = [marked_text(*one, marks) for one in zip(prepared, counts, strict=True)]
        if all(counts) and made == list(texts):
            return marks
    return None


def _as_run(token: str, prepared: Sequence[Prepared], texts: Sequence[str]) -> dict[str, Any] | None:
    before, _, rest = texts[0].partition(token)
    return {"rule": "run", "token": token, "before": before, "after": rest.rpartition(token)[2]}


def _as_lines(token: str, prepared: Sequence[Prepared], texts: Sequence[str]) -> dict[str, Any] | None:
    for one, text in zip(prepared, texts, strict=True):
        pieces = [piece for piece in re.split(f"(?:{re.escape(token)})+", text) if piece]
        if one.rows > 1 and len(pieces) == one.rows:
            return {"rule": "lines", "token": token, "between": pieces[0], "after": pieces[-1]}
    return None


def _as_numbered(token: str, prepared: Sequence[Prepared], texts: Sequence[str]) -> dict[str, Any] | None:
    """Learnt from the image of the most tiles: what is before the second has its number in it."""
    large = max(range(len(texts)), key=lambda index: prepared[index].rows * prepared[index].columns)
    pieces = re.split(f"(?:{re.escape(token)})+", texts[large])
    count = prepared[large].rows * prepared[large].columns
    if count < 2 or len(pieces) != count + 2:
        return None
    tile = pieces[1].replace("2", "{number}", 1)
    first = tile.replace("{number}", "1")
    if not pieces[0].endswith(first):
        return None
    before = pieces[0].removesuffix(first)
    return {
        "rule": "numbered",
        "token": token,
        "before": before,
        "tile": tile,
        "whole": pieces[-2],
        "after": pieces[-1],
    }


def _as_tiles(token: str, prepared: Sequence[Prepared], texts: Sequence[str]) -> dict[str, Any] | None:
    """Learnt from an image of at least two lines and columns, and one that is not cut."""
    pieces = [re.split(f"(?:{re.escape(token)})+", text) for text in texts]
    large = next((index for index, one in enumerate(prepared) if one.rows > 1 and one.columns > 2), None)
    whole = next((index for index, one in enumerate(prepared) if not one.rows), None)
    if large is None or len(pieces[large]) != prepared[large].rows * prepared[large].columns + 2:
        return None
    columns, found_pieces = prepared[large].columns, pieces[large]
    first, second = found_pieces[0], found_pieces[1]
    # "row_1_col_1" and "row_1_col_2": what differs is the column, and the other number the line.
    at = next((place for place, (a, b) in enumerate(zip(first, second, strict=False)) if a != b), len(first))
    tile = f"{first[:at]}{{column}}{first[at + 1 :]}"
    tile = tile.replace("1", "{row}", 1)
    next_line = tile.replace("{row}", "2").replace("{column}", "1")
    if not found_pieces[columns].endswith(next_line):
        return None
    line = found_pieces[columns].removesuffix(next_line)
    before_whole, after = found_pieces[-2], found_pieces[-1]
    single = next((index for index, one in enumerate(prepared) if one.rows * one.columns == 1), None)
    return {
        "rule": "tiles",
        "token": token,
        "tile": tile,
        "line": line,
        "whole": before_whole.removeprefix(line),
        "alone": "" if whole is None else pieces[whole][0],
        "after": after,
        # With a whole image behind it, such a text has three pieces.
        **({"single": pieces[single]} if single is not None and len(pieces[single]) == 2 else {}),
    }
