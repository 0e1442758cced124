"""How large a state tensor is for some rows: what the letters among its dims stand for."""

from __future__ import annotations

from jisu.exporter.contract.signature import CAPACITY, SOURCE, StateSpec

BATCH = "B"


def batch_axis(spec: StateSpec) -> int:
    """The axis that counts rows; the first one when no axis is named."""
    return spec.dims.index(BATCH) if BATCH in spec.dims else 0


def state_sizes(spec: StateSpec, *, batch: int, capacity: int, source: int | None = None) -> tuple[int, ...]:
    """The sizes of a tensor's axes.

    Args:
        batch: rows.
        capacity: tokens that a key/value buffer has room for.
        source: tokens of the text that an encoder read; None where there is no encoder.
    """
    named = {CAPACITY: capacity, SOURCE: source}
    axis = batch_axis(spec)
    sizes = [batch if index == axis else named.get(str(dim), dim) for index, dim in enumerate(spec.dims)]
    return tuple(int(size) for size in sizes if size is not None)
