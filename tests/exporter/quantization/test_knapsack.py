from __future__ import annotations

import itertools

import numpy as np
import pytest

from jisu.exporter.quantization.knapsack import choose_options


def test_the_cheapest_choice_within_the_limit_is_taken():
    # Sizes 4 or 1; the damage of the small form is 1, 5 and 2: two of three may be small.
    sizes, damage = [[4, 1]] * 3, [[0, 1], [0, 5], [0, 2]]
    assert choose_options(sizes, damage, limit=3, steps=30) == [1, 0, 1]
    assert choose_options(sizes, damage, limit=1, steps=30) == [1, 0, 0]


def test_a_limit_that_nothing_meets_gives_none():
    assert choose_options([[1, 2]], [[5.0, 4.0]], limit=3.9) is None


def test_a_limit_that_is_met_exactly_is_met():
    assert choose_options([[9.0, 1.0]] * 3, [[0.0, 1.0]] * 3, limit=3.0, steps=30) == [1, 1, 1]


def test_weights_of_zero_are_free_even_within_a_limit_of_zero():
    assert choose_options([[1.0, 2.0]], [[0.0, 0.0]], limit=0.0) == [0]
    assert choose_options([[1.0, 2.0]], [[1.0, 0.0]], limit=0.0) == [1]


@pytest.mark.parametrize("seed", range(5))
def test_no_choice_is_better_than_the_one_found(seed):
    generator = np.random.default_rng(seed)
    values, weights = generator.integers(1, 50, (6, 3)).tolist(), generator.integers(1, 20, (6, 3)).tolist()
    limit = 60
    every = [
        sum(values[item][option] for item, option in enumerate(options))
        for options in itertools.product(range(3), repeat=6)
        if sum(weights[item][option] for item, option in enumerate(options)) <= limit
    ]
    chosen = choose_options(values, weights, limit=limit, steps=60)
    assert chosen is not None
    assert sum(values[item][option] for item, option in enumerate(chosen)) == min(every)
