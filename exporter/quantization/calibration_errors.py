"""What calibration finds wrong with a text, a weight or an activation is the user's to mend: an `InputError`."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

from jisu.exporter.contract.errors import InputError


@contextlib.contextmanager
def as_input_errors() -> Iterator[None]:
    """Turn a `CalibrationError` of the block into an InputError with the same parts."""
    from jisu.calibration.errors import CalibrationError

    try:
        yield
    except CalibrationError as error:
        raise InputError.of(error) from error
