from __future__ import annotations

import pytest

from jisu.calibration.errors import ActivationError
from jisu.exporter.contract.errors import InputError
from jisu.exporter.quantization.calibration_errors import as_input_errors

FIX = "Check the checkpoint."


def test_an_error_of_calibration_keeps_its_parts() -> None:
    error = ActivationError("They are not finite", received="NaN", allowed="numbers", fix=FIX)
    with pytest.raises(InputError, match="They are not finite") as caught, as_input_errors():
        raise error
    assert str(caught.value) == str(InputError("They are not finite", received="NaN", allowed="numbers", fix=FIX))
    assert caught.value.__cause__ is error


def test_any_other_error_stays_what_it_is() -> None:
    with pytest.raises(ZeroDivisionError), as_input_errors():
        _ = 1 / 0
