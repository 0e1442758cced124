"""Narrows what a token is drawn from by other measures than rank and mass: typicality, entropy, a floor.

Each function takes weights, float64 [kept], proportional to probabilities, and returns a mask of those that stay. The
rules are those of transformers' warpers of the same names (5.23).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Weights = npt.NDArray[np.float64]
Mask = npt.NDArray[np.bool_]

_MOST_BY_ENTROPY = 100


def typical(weights: Weights, mass: float) -> Mask:
    """The tokens whose surprise is closest to the entropy, up to a mass (Meister et al. 2022, typical sampling).

    With p the probabilities and H their entropy: sorted by |-log p - H|, as many as have ``mass`` together.
    """
    chances, surprise = _chances(weights)
    distance = np.abs(surprise - (chances * np.where(chances > 0, surprise, 0.0)).sum())
    order = np.argsort(distance, kind="stable")
    count = int((np.cumsum(chances[order]) < mass).sum())
    edge = distance[order[min(count, len(order) - 1)]]
    return np.asarray((distance <= edge) & (chances > 0))


def above_epsilon(weights: Weights, epsilon: float) -> Mask:
    """The tokens of at least this probability, and the likeliest (Hewitt et al. 2022, truncation sampling)."""
    chances, _ = _chances(weights)
    return np.asarray((chances >= epsilon) | (chances == chances.max()))


def above_eta(weights: Weights, epsilon: float) -> Mask:
    """The same with the bound min(epsilon, sqrt(epsilon) * exp(-H)), H the entropy."""
    chances, surprise = _chances(weights)
    entropy = float((chances * np.where(chances > 0, surprise, 0.0)).sum())
    bound = min(epsilon, float(np.sqrt(epsilon)) * float(np.exp(-entropy)))
    return np.asarray((chances >= bound) | (chances == chances.max()))


def within_entropy(weights: Weights, share: float) -> Mask:
    """The likeliest of at most 100 tokens as long as their terms of the entropy sum to ``share`` of it, and the first.

    The entropy is that of those 100 alone.
    """
    order = np.argsort(-weights, kind="stable")[:_MOST_BY_ENTROPY]
    chances, surprise = _chances(weights[order])
    terms = chances * np.where(chances > 0, surprise, 0.0)
    stays = np.cumsum(terms) <= terms.sum() * share
    stays[0] = True
    mask = np.zeros(len(weights), bool)
    mask[order[stays]] = True
    return mask


def _chances(weights: Weights) -> tuple[Weights, Weights]:
    """Probabilities p and -log p, which is infinite where p is 0."""
    chances = weights / weights.sum()
    with np.errstate(divide="ignore"):
        return chances, -np.log(chances)
