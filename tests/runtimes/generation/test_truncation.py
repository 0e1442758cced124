"""Probabilities of 1/2, 1/4, 1/8 and 1/8: their surprise is 1, 2, 3 and 3 bits, their entropy 1.75 bits."""

from __future__ import annotations

import numpy as np
import pytest

from jisu.runtimes.generation.truncation import above_epsilon, above_eta, typical, within_entropy

WEIGHTS = np.array([8.0, 4.0, 2.0, 2.0])


@pytest.mark.parametrize(("mass", "kept"), [(0.2, [1]), (0.25, [1]), (0.6, [0, 1]), (0.9, [0, 1, 2, 3])])
def test_the_tokens_closest_to_the_entropy_are_typical(mass: float, kept: list[int]) -> None:
    assert np.flatnonzero(typical(WEIGHTS, mass)).tolist() == kept


@pytest.mark.parametrize(("epsilon", "kept"), [(0.1, [0, 1, 2, 3]), (0.13, [0, 1]), (0.25, [0, 1]), (0.9, [0])])
def test_a_token_below_epsilon_goes_unless_it_is_the_likeliest(epsilon: float, kept: list[int]) -> None:
    assert np.flatnonzero(above_epsilon(WEIGHTS, epsilon)).tolist() == kept


# sqrt(0.13) exp(-1.75 ln 2) = 0.107, below 1/8; sqrt(0.2) exp(-1.75 ln 2) = 0.133, above it.
@pytest.mark.parametrize(("epsilon", "kept"), [(0.13, [0, 1, 2, 3]), (0.2, [0, 1])])
def test_eta_lowers_the_bound_where_the_entropy_is_high(epsilon: float, kept: list[int]) -> None:
    assert np.flatnonzero(above_eta(WEIGHTS, epsilon)).tolist() == kept


@pytest.mark.parametrize(("share", "kept"), [(0.0, [0]), (0.3, [0]), (0.6, [0, 1]), (0.8, [0, 1, 2])])
def test_terms_of_the_entropy_are_summed_up_to_a_share(share: float, kept: list[int]) -> None:
    assert np.flatnonzero(within_entropy(WEIGHTS, share)).tolist() == kept


def test_a_weight_of_zero_is_never_kept() -> None:
    weights = np.array([1.0, 0.0])
    assert [bool(rule(weights, 0.9)[1]) for rule in (typical, above_epsilon, above_eta)] == [False] * 3
