"""How far two right implementations of the same weights may be apart, by how the other one multiplies them."""

from __future__ import annotations

from dataclasses import dataclass

# What llama.cpp stores without blocks of integers: it multiplies these as they are, and rounds activations to the type
# of the weights; for blocks of integers it rounds them to 8-bit integers.
_PLAIN = {"F32": 2e-3, "F16": 2e-2, "BF16": 1e-1}


@dataclass(frozen=True, kw_only=True)
class Limits:
    """Limits of a second opinion; None is not judged.

    Attributes:
        max_logit_error: largest |difference| of a row of logits, in standard deviations of the other one's row.
        max_mean_kl: KL divergence in nats from the other implementation, mean over all positions.
        min_top1: share of positions with the same most likely token, near ties left out.
    """

    max_logit_error: float | None
    max_mean_kl: float
    min_top1: float


def limits_of_types(types: str) -> Limits:
    """Limits for weights of these stored types, joined by commas, as a provenance records them."""
    stored = [name.strip() for name in types.split(",")]
    if all(name in _PLAIN for name in stored):
        return Limits(max_logit_error=max(_PLAIN[name] for name in stored), max_mean_kl=1e-3, min_top1=0.99)
    return Limits(max_logit_error=None, max_mean_kl=0.02, min_top1=0.9)


EXACT = limits_of_types("F32")
