from __future__ import annotations

import numpy as np
import pytest

from jisu.calibration.weights.block_columns import SHRINK, BlockColumns
from jisu.calibration.weights.block_scales import encode, full_range
from jisu.calibration.weights.formats import BlockFormat

FORMATS = [
    BlockFormat(bits=bits, block_size=size, symmetric=symmetric)
    for bits in (2, 4, 8)
    for size in (16, 64)
    for symmetric in (True, False)
]


def heavy_tails(*shape):
    return (np.random.default_rng(0).standard_t(4, shape) * 0.02).astype(np.float32)


def errors(blocks, scale, zero, form, importance):
    rest = (encode(blocks, scale, zero, form) - zero[:, None]) * scale[:, None] - blocks
    return (rest * rest * importance).sum(axis=1)


def search_along_rows(blocks, form, importance, *, steps, refits):
    """The same search written down plainly: every range of every block is tried, one step after another."""
    full, start = full_range(blocks, form)
    best = [errors(blocks, full, start, form, importance), full.copy(), start.copy()]

    def offer(scale, zero):
        error = errors(blocks, scale, zero, form, importance)
        better = error < best[0]
        for mine, other in zip(best, (error, scale, zero), strict=True):
            mine[better] = other[better]

    for shrink in np.linspace(1, SHRINK, steps, dtype=np.float32)[1:]:
        offer(full * shrink, start)
    coarse = best[1].copy()
    for shift in (0,) if form.symmetric else (0, -1, 1):
        zero, scale = np.clip(start + np.float32(shift), 0, form.largest_code), coarse
        for _ in range(refits):
            codes = encode(blocks, scale, zero, form) - zero[:, None]
            square, product = (codes * codes * importance).sum(axis=1), (codes * blocks * importance).sum(axis=1)
            scale = np.where((square > 0) & (product > 0), product / np.where(square > 0, square, 1), scale)
            offer(scale, zero)
    return best[1], best[2]


@pytest.mark.parametrize("weighted", [False, True])
@pytest.mark.parametrize("form", FORMATS, ids=lambda form: f"{form.bits}-{form.block_size}-{form.symmetric}")
def test_codes_are_those_of_a_search_along_rows(form, weighted):
    blocks = heavy_tails(2000, form.block_size)
    importance = np.random.default_rng(1).random((form.block_size, 2000 if weighted else 1)).astype(np.float32)
    columns, codes = BlockColumns(form), np.empty(blocks.shape, np.uint8)
    columns.load(blocks, importance if weighted else None)
    scale, zero = columns.search(steps=12, refits=2)
    columns.encode(scale, zero, out=codes)

    plain = search_along_rows(blocks, form, importance.T if weighted else np.float32(1), steps=12, refits=2)
    # Sums are added in another order, so that two ranges with errors alike to seven digits may change places.
    assert np.mean(codes - zero[:, None] != encode(blocks, *plain, form) - plain[1][:, None]) < 1e-4
    assert np.mean(zero != plain[1]) < 1e-3
    np.testing.assert_allclose(
        errors(blocks, scale, zero, form, 1 if not weighted else importance.T).sum(),
        errors(blocks, *plain, form, 1 if not weighted else importance.T).sum(),
        rtol=1e-5,
    )


@pytest.mark.parametrize("form", FORMATS[:4], ids=lambda form: f"{form.block_size}-{form.symmetric}")
def test_the_full_range_is_that_along_rows(form):
    blocks = heavy_tails(100, form.block_size)
    columns = BlockColumns(form)
    columns.load(blocks)
    for mine, plain in zip(columns.full_range(), full_range(blocks, form), strict=True):
        assert mine.tolist() == plain.tolist()


def test_a_smaller_piece_after_a_larger_one_is_rounded_alone():
    form = BlockFormat(bits=4, block_size=16, symmetric=False)
    blocks, columns = heavy_tails(64, 16), BlockColumns(form)
    columns.load(blocks)
    whole = columns.search(steps=12, refits=2)
    columns.load(blocks[:10])
    part = columns.search(steps=12, refits=2)
    assert [one[:10].tolist() for one in whole] == [one.tolist() for one in part]


def test_codes_of_eight_bits_try_no_smaller_range(monkeypatch):
    # Clipping by the first step of the grid costs more than rounding 32 weights can.
    form = BlockFormat(bits=8, block_size=32, symmetric=True)
    columns, rounds = BlockColumns(form), []
    own = columns._round
    monkeypatch.setattr(columns, "_round", lambda *arguments: rounds.append(own(*arguments)))
    columns.load(heavy_tails(1000, 32))
    columns.search(steps=12, refits=2)
    assert len(rounds) == 3, "the full range and two refits"
