from __future__ import annotations

import numpy as np

from jisu.exporter.gate.domains import built_in_domains
from jisu.exporter.gate.pairs import DOCUMENTS, PAIR_TOKENS, QUERIES, gate_pairs
from tests.support.models import word_tokenizer

READABLE = {domain.name for domain in built_in_domains()}


def test_pairs_are_encoded_as_the_tokenizer_does_it():
    pairs = gate_pairs(word_tokenizer(), READABLE, 512, takes_types=True, ranks=True)
    assert {name for name, _ in pairs.domains} == READABLE
    for _, rows in pairs.domains:
        assert all(len(row) <= most for row, most in zip(rows, PAIR_TOKENS, strict=True))
        for row in rows:
            types = pairs.types[row.tobytes()]
            assert (row[0], row[-1], int((row == 3).sum())) == (2, 3, 2)  # [CLS] ... [SEP] ... [SEP]
            assert np.array_equal(types, np.arange(len(row)) > int(np.flatnonzero(row == 3)[0]))
    assert (len(pairs.ranked), {len(rows) for rows in pairs.ranked}) == (QUERIES, {DOCUMENTS})


def test_types_and_order_are_left_out_where_nobody_asks_for_them():
    pairs = gate_pairs(word_tokenizer(), {"chinese"}, 20, takes_types=False, ranks=False)
    assert (pairs.types, pairs.ranked) == ({}, ())
    assert [name for name, _ in pairs.domains] == ["chinese"]
    assert max(len(row) for row in pairs.domains[0][1]) <= 20
