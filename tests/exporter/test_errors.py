from __future__ import annotations

import exporter.errors
import jisu
from exporter.contract import errors


def test_errors_are_the_same_under_every_name() -> None:
    for name in exporter.errors.__all__:
        assert getattr(exporter.errors, name) is getattr(errors, name)
    assert jisu.InputError is errors.InputError
