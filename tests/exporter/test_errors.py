from __future__ import annotations

import jisu
import jisu.exporter.errors
from jisu.exporter.contract import errors


def test_errors_are_the_same_under_every_name() -> None:
    for name in jisu.exporter.errors.__all__:
        assert getattr(jisu.exporter.errors, name) is getattr(errors, name)
    assert jisu.InputError is errors.InputError
