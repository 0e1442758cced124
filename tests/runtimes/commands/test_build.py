from __future__ import annotations

import argparse

import pytest

from jisu.runtimes.commands.build import capability


def test_a_capability_is_two_numbers():
    assert (capability("8.9"), capability("12.0")) == ((8, 9), (12, 0))
    for wrong in ("89", "sm89", "8.9.1", ""):
        with pytest.raises(argparse.ArgumentTypeError, match="write it as 8.9"):
            capability(wrong)
