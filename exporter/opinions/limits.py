"""How far two right implementations of the same weights may be apart, by how the other one multiplies them."""

from __future__ import annotations

from dataclasses import dataclass

# llama.cpp rounds activations to the type of the weights that they meet, to 8-bit integers for blocks of integers, and
# takes GELU from a table of half-precision numbers. Measured on small random models of 30 architectures against
# transformers, in standard deviations: F32 3e-5, with GELU 3e-3; F16 6e-3; BF16 4e-2, and 1 where a rounding sends a
# token to other experts. Blocks: mean KL 1e-4, with experts 4e-3; SmolLM2-135M in Q4_1 2e-3, the same choice at 98 %.
_PLAIN = {"F32": 1e-2, "F16": 2e-2}


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


# Of transformers: the gate's own limit, see `exporter.precision.budget`.
EXACT = Limits(max_logit_error=2e-3, max_mean_kl=1e-3, min_top1=0.99)
