"""Marks of an image: a run of tokens, lines, and tiles."""

from __future__ import annotations

from typing import Any

from jisu.runtimes.images.marks import laid_out, marked_text
from jisu.runtimes.images.preparation import Prepared


def image(rows: int = 0, columns: int = 0) -> Prepared:
    return Prepared(inputs={}, rows=rows, columns=columns)


def test_a_run_stands_between_its_ends() -> None:
    assert marked_text(image(), 3, {"rule": "run", "token": "x", "before": "(", "after": ")"}) == "(xxx)"


def test_lines_are_separated_and_the_last_one_ends_the_image() -> None:
    marks = {"rule": "lines", "token": "x", "between": "|", "after": "."}
    assert marked_text(image(2, 3), 6, marks) == "xxx|xxx."


TILES: dict[str, Any] = {
    "rule": "tiles",
    "token": "x",
    "tile": "<{row},{column}>",
    "line": "/",
    "whole": "W",
    "alone": "A",
    "after": ".",
}


def test_tiles_are_named_line_by_line_with_the_whole_behind_them() -> None:
    assert marked_text(image(2, 2), 10, TILES) == "<1,1>xx<1,2>xx/<2,1>xx<2,2>xx/Wxx."


def test_an_image_that_is_not_cut_stands_alone() -> None:
    assert marked_text(image(), 2, TILES) == "Axx."


def test_one_tile_may_have_no_whole_image_behind_it() -> None:
    assert marked_text(image(1, 1), 2, {**TILES, "single": ["(", ")"]}) == "(xx)"
    assert marked_text(image(1, 1), 2, TILES) == "<1,1>x/Wx."


def test_what_surrounds_a_text_stands_behind_its_last_image() -> None:
    layout = {"before": "(", "mark": "!", "end": ")"}
    assert laid_out("a<i>b<i>c", "<i>", layout) == "(a<i>b<i>!c)"
    assert laid_out("no image", "<i>", layout) == "(no image)"


def test_tiles_are_numbered_and_one_is_the_whole_image() -> None:
    marks = {"rule": "numbered", "token": "x", "before": "(", "tile": "T{number}", "whole": "W", "after": ")"}
    assert marked_text(image(1, 2), 6, marks) == "(T1xxT2xxWxx)"
    assert marked_text(image(1, 1), 2, marks) == "(Wxx)"
