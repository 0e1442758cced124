from __future__ import annotations

from jisu.calibration.errors import CalibrationError, FormatError, MissingPackageError


def test_an_error_says_its_four_parts_and_keeps_them_apart() -> None:
    error = FormatError("It failed", received=3, allowed="1 or 2", fix="Use 2.")

    assert str(error) == "It failed. Received: 3. Allowed: 1 or 2. Use 2."
    assert (error.failed, error.received, error.allowed, error.fix) == ("It failed", 3, "1 or 2", "Use 2.")


def test_every_error_is_a_value_error() -> None:
    assert issubclass(CalibrationError, ValueError)
    assert isinstance(MissingPackageError("pyarrow", needed_for="A dataset"), ValueError)
