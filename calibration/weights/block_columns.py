"""A piece of a matrix with a column for each of its blocks: what rounding it and searching for its scales takes.

A block's values lie below each other, so that sums and extremes of blocks are sums of rows, and a block's scale meets
them without being repeated: several times as fast as along rows of 32. Pieces and their buffers stay in the cache of a
core; NumPy releases the interpreter's lock, so that threads with a `BlockColumns` of their own run side by side.
"""

from __future__ import annotations

import numpy as np

from jisu.calibration.weights.formats import BlockFormat, Codes, Floats

PIECE = 1 << 15  # weights; five buffers of them in float32 fit into 1 MB
SHRINK = 0.6  # the smallest range tried, as a share of the full one; below it the clipped ends dominate
# An error is at least that of what is clipped, but for the rounding of float32 sums.
_BOUND = np.float32(1 - 1e-3)
_GATHER = 0.7  # when no more blocks than this share can still gain, the others are left out
_TINY = np.finfo(np.float32).tiny


class BlockColumns:
    """Blocks [n, size] of one piece; loaded again for every piece, the buffers stay."""

    def __init__(self, block_format: BlockFormat) -> None:
        self._format = block_format
        self._flat = [np.empty(0, np.float32)] * 4
        self._flat_codes = np.empty(0, np.uint8)
        self._values = self._steps = self._rest = self._weighted = np.empty((0, 0), np.float32)
        self._low = self._high = np.empty(0, np.float32)
        self._importance: Floats | None = None

    def load(self, blocks: Floats, importance: Floats | None = None) -> None:
        """Take blocks float32 [n, size]; importance [size, n] or [size, 1], non-negative, None for 1."""
        count, size = blocks.shape
        if len(self._flat[0]) < blocks.size:
            self._flat = [np.empty(blocks.size, np.float32) for _ in self._flat]
            self._flat_codes = np.empty(blocks.size, np.uint8)
        self._shape(size, count)
        np.copyto(self._values, blocks.T)
        self._low, self._high = self._values.min(axis=0), self._values.max(axis=0)
        self._importance = importance

    def full_range(self) -> tuple[Floats, Floats]:
        """`calibration.weights.block_scales.full_range` of the blocks, float32 [n] each."""
        low, high = self._low, self._high
        if self._format.symmetric:
            scale = np.maximum(-low, high) / np.float32(self._format.middle - 1)
            zero = np.full_like(scale, self._format.middle)
        else:
            low, high = np.minimum(low, 0), np.maximum(high, 0)
            scale = (high - low) / np.float32(self._format.largest_code)
            zero = np.rint(-low / np.where(scale > 0, scale, 1))
        # A range so small that its scale is denormal would overflow when divided by.
        return np.where(scale > _TINY, scale, np.float32(1)), zero

    def search(self, *, steps: int, refits: int) -> tuple[Floats, Floats]:
        """Scale and zero point of least squared error, as `calibration.weights.block_scales.least_error` says."""
        scale, zero = self.full_range()
        self._round(scale, zero)
        error = self._error(scale)
        rounded = not self._shrink(scale, zero, error, steps)
        best_scale, best_zero = scale.copy(), zero.copy()
        for shift in (0,) if self._format.symmetric else (0, -1, 1):
            tried = np.clip(zero + np.float32(shift), 0, self._format.largest_code)
            fitted = scale
            if shift or not rounded:
                self._round(fitted, tried)
            for _ in range(refits):
                fitted = self._fit(fitted)
                self._round(fitted, tried)
                tried_error = self._error(fitted)
                better = tried_error < error
                np.copyto(error, tried_error, where=better)
                np.copyto(best_scale, fitted, where=better)
                np.copyto(best_zero, tried, where=better)
        return best_scale, best_zero

    def encode(self, scale: Floats, zero: Floats, out: Codes) -> None:
        """Write clip(round(w / s) + z, 0, 2**bits - 1) to ``out``, uint8 [n, size]."""
        self._round(scale, zero)
        self._steps += zero
        codes = self._flat_codes[: self._steps.size].reshape(self._steps.shape)
        np.copyto(codes, self._steps, casting="unsafe")
        np.copyto(out, codes.T)

    def _shape(self, size: int, count: int) -> None:
        shaped = [flat[: size * count].reshape(size, count) for flat in self._flat]
        self._values, self._steps, self._rest, self._weighted = shaped

    def _shrink(self, scale: Floats, zero: Floats, error: Floats, steps: int) -> bool:
        """Try smaller ranges, in place; whether any was tried.

        A block whose clipped ends alone are worse than its best is done with: of 8 bits, nearly all from the beginning.
        """
        low, high = self._low, self._high
        above = np.float32(self._format.largest_code) - zero
        least = None if self._importance is None else self._importance.min(axis=0)
        everything, own_importance = self._values, self._importance
        full, part_zero, part_error = scale.copy(), zero, error.copy()
        part_scale = full.copy()
        left: slice | np.ndarray[tuple[int], np.dtype[np.intp]] = slice(None)
        tries = 0
        for shrink in np.linspace(1, SHRINK, steps, dtype=np.float32)[1:]:
            tried = full * shrink
            clipped = np.maximum(high - above * tried, 0) ** 2 + np.maximum(-low - part_zero * tried, 0) ** 2
            alive = clipped * (_BOUND if least is None else _BOUND * least) < part_error
            count = int(np.count_nonzero(alive))
            if count <= _GATHER * len(alive):
                scale[left], error[left] = part_scale, part_error
                if not count:
                    break
                chosen = np.flatnonzero(alive)
                left = chosen if isinstance(left, slice) else left[chosen]
                parts = (full, tried, part_scale, part_zero, part_error, low, high, above)
                full, tried, part_scale, part_zero, part_error, low, high, above = (one[chosen] for one in parts)
                self._keep(chosen)
                least = None if self._importance is None else self._importance.min(axis=0)
            tries += 1
            self._round(tried, part_zero)
            tried_error = self._error(tried)
            better = tried_error < part_error
            np.copyto(part_error, tried_error, where=better)
            np.copyto(part_scale, tried, where=better)
        else:
            scale[left], error[left] = part_scale, part_error
        self._shape(*everything.shape)
        self._values, self._importance = everything, own_importance
        return tries > 0

    def _keep(self, chosen: np.ndarray[tuple[int], np.dtype[np.intp]]) -> None:
        """Continue with these columns alone, as copies."""
        size = len(self._values)
        values = np.take(self._values, chosen, axis=1)
        self._shape(size, len(chosen))
        self._values = values
        if self._importance is not None and self._importance.shape[1] > 1:
            self._importance = np.take(self._importance, chosen, axis=1)

    def _round(self, scale: Floats, zero: Floats) -> None:
        """The codes less their zero point, as floats, into the buffer of steps."""
        np.divide(self._values, scale, out=self._steps)
        np.rint(self._steps, out=self._steps)
        if self._format.symmetric:
            middle = np.float32(self._format.middle)
            np.clip(self._steps, -middle, middle - 1, out=self._steps)
        else:
            np.maximum(self._steps, -zero, out=self._steps)  # np.clip by arrays takes thrice as long
            np.minimum(self._steps, np.float32(self._format.largest_code) - zero, out=self._steps)

    def _fit(self, scale: Floats) -> Floats:
        """The least-squares scale for the steps at hand; unchanged where they are all zero."""
        weighted = self._steps
        if self._importance is not None:
            weighted = np.multiply(self._steps, self._importance, out=self._weighted)
        square = np.einsum("kn,kn->n", weighted, self._steps)
        product = np.einsum("kn,kn->n", weighted, self._values)
        good = (square > 0) & (product > _TINY)
        fitted: Floats = np.where(good, product / np.where(good, square, 1), scale)
        return fitted

    def _error(self, scale: Floats) -> Floats:
        rest = np.multiply(self._steps, scale, out=self._rest)
        rest -= self._values
        weighted = rest
        if self._importance is not None:
            weighted = np.multiply(rest, self._importance, out=self._weighted)
        error: Floats = np.einsum("kn,kn->n", weighted, rest)
        return error
