from __future__ import annotations

import pytest

from jisu.benchmarks.report.column import shown


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (143_234_567, "MB", "143.2"),
        (0.00123456, "ms", "1.235"),
        (0.00541, "nats", "0.00541"),
        (2.16e-13, "nats", "2.16e-13"),
        (0.9583, "%", "95.83"),
        (126.04, "tok/s", "126.0"),
        (1605.7, "tok/s", "1606"),
        (0.99999, "", "1.000"),
        (0.9999, "", "0.9999"),
        (17, "", "17"),
        (0, "", "0"),
        (0.0, "nats", "0"),
    ],
)
def test_numbers_have_the_digits_of_their_unit(value, unit, text):
    assert shown(value, unit) == text
