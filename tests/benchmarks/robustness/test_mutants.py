from __future__ import annotations

import json
import random

import pytest

from jisu.benchmarks.robustness.mutants import OF_BYTES, OF_JSON, SAME_SIZE, mutate

TREE = {"layers": 3, "names": ["a", "b"], "inner": {"on": True, "scale": 0.5}}


@pytest.mark.parametrize("mutation", OF_BYTES, ids=lambda one: one.__name__)
def test_bytes_are_damaged_within_their_file(mutation):
    data = bytes(range(256))
    actual = {mutation(data, random.Random(seed)) for seed in range(30)}
    assert len(actual) > 20
    if mutation in SAME_SIZE:
        assert {len(one) for one in actual} == {256}


@pytest.mark.parametrize("mutation", OF_JSON, ids=lambda one: one.__name__)
def test_values_are_damaged_at_any_depth_and_json_stays_json(mutation):
    trees = [json.loads(mutation(json.dumps(TREE).encode(), random.Random(seed))) for seed in range(60)]
    assert any(
        tree["inner"] != TREE["inner"] for tree in trees if "inner" in tree and tree.get("names") == TREE["names"]
    )
    assert any(tree.get("layers") != 3 for tree in trees)


@pytest.mark.parametrize("data", [json.dumps(TREE).encode(), b"\x00" * 9, b"{}", b"7", b"not {json"])
def test_a_mutant_is_another_file_and_the_same_for_its_seed(data):
    for seed in range(40):
        how, damaged = mutate("file", data, seed)
        assert damaged != data
        assert mutate("file", data, seed) == (how, damaged)
    assert len({mutate("file", data, seed) for seed in range(40)}) > 8
