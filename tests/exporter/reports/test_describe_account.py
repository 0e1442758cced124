from __future__ import annotations

import pytest

from jisu.exporter.reports.describe_account import describe_account
from jisu.exporter.sources.account import Account


def test_counts_and_names_are_shown() -> None:
    account = Account(ignore=("*.mtp.*",)).state("tensor", ["h.0.w", "h.1.w"], fate="used")
    account = account.state("tensor", ["h.0.inv_freq"], fate="derived", why="rotary frequencies")
    assert describe_account(account.to_record()) == [
        "tensor      2 used, 1 derived",
        "derived     h.0.inv_freq: rotary frequencies",
        "left out on request: *.mtp.*",
    ]


@pytest.mark.parametrize("record", [None, {}, {"counts": 3}, {"counts": {"tensor": 1}, "named": [1, {"names": 2}]}])
def test_records_of_another_make_are_survived(record: object) -> None:
    assert describe_account(record) == []
