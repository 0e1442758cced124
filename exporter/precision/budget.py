"""How far an exported model may be from its source: strict for fp32, in quality figures for reduced precision."""

from __future__ import annotations

from dataclasses import dataclass

from jisu.exporter.contract.errors import InputError

# Measured on SmolLM2-135M, in standard deviations of a row of logits: torch's sdpa against its eager attention 2.0e-5,
# against float64 1.7e-5, ONNX Runtime against torch 3.0e-5. Faults (a mask, a layer, a position) move a row by more
# than 0.1. The limit leaves deeper models, whose rounding adds up, room for 60 times that noise.
FP32_LOGIT_ERROR = 2e-3

# Measured on SmolLM2-135M with 4-bit weights and activations rounded to 8 bits at run time: no row of a chunked prefill
# is further than 0.039 nats from the same row in one call, none of a cached decode further than 0.018.
SELF_KL = 0.2

# What every model that generates is asked for, which a module of one's own is tried with before anything is traced.
LONGEST = 300  # tokens; kernels choose other paths above 256
GREEDY_STEPS = 32


@dataclass(frozen=True, kw_only=True)
class Budget:
    """Limits of the gate; a limit of None is not judged.

    Attributes:
        max_logit_error: largest |logit difference| of a row, in standard deviations of the reference's row. With
            None, the checks of single prompts are judged by their mean KL divergence instead.
        same_greedy_tokens: the greedy continuation must be the reference's, near ties excepted.
        max_check_kl: mean KL divergence in nats over the rows of one prompt, used where max_logit_error is None. Looser
            than max_mean_kl: a prompt has few rows. It is there to catch faults, not rounding.
        max_self_kl: largest KL divergence in nats of a row from the candidate's own prefill, used beside max_check_kl
            to judge batches, caches, chunks and rewinds.
        max_mean_kl, max_p99_kl: KL divergence in nats on held-out text, reference to candidate; of every domain, so of
            the worst, like the limits below. A limit is exceeded when the figure's interval lies beyond it.
        min_top1: share of positions whose most likely token agrees, 0..1.
        max_perplexity_ratio: candidate's perplexity over the reference's.
        max_confident_changes: share of the positions of which the reference is confident, that change, 0..1.
        max_average_kl: mean of the domains' mean divergences, in nats.
        min_cosine: of a vector with the source's, for each text, -1..1; of embedding models.
        min_recall: share of the nearest texts that are the source's, 0..1; of embedding models.
    """

    max_logit_error: float | None = None
    same_greedy_tokens: bool = False
    max_check_kl: float | None = None
    max_self_kl: float | None = None
    max_mean_kl: float | None = None
    max_p99_kl: float | None = None
    min_top1: float | None = None
    max_perplexity_ratio: float | None = None
    max_confident_changes: float | None = None
    max_average_kl: float | None = None
    min_cosine: float | None = None
    min_recall: float | None = None

    def __post_init__(self) -> None:
        relaxed = {self.max_check_kl is not None, self.max_self_kl is not None}
        if relaxed != {self.max_logit_error is None}:
            raise InputError(
                "The budget of the gate is unclear",
                received=f"max_logit_error={self.max_logit_error}, max_check_kl={self.max_check_kl}, "
                f"max_self_kl={self.max_self_kl}",
                allowed="the first, or the other two",
                fix="Set max_logit_error for fp32, max_check_kl and max_self_kl for reduced precision.",
            )
        if self.same_greedy_tokens and self.max_logit_error is None:
            raise InputError(
                "The gate's budget asks for equal greedy tokens without a limit for near ties",
                received="no max_logit_error",
                allowed="exact greedy tokens together with max_logit_error",
                fix="Set max_logit_error too.",
            )
        wrong = [
            f"{name}={value}"
            for name, low, high in _RANGES
            if (value := getattr(self, name)) is not None and not (low <= value <= high)
        ]
        if wrong:
            raise InputError(
                "The budget of the gate is out of range",
                received=", ".join(wrong),
                allowed="; ".join(f"{name} {low}..{high}" for name, low, high in _RANGES),
                fix="Correct the budget.",
            )

    @property
    def judges_quality(self) -> bool:
        """Whether the held-out text has to be scored."""
        limits = (
            self.max_mean_kl,
            self.max_p99_kl,
            self.min_top1,
            self.max_perplexity_ratio,
            self.max_confident_changes,
            self.max_average_kl,
        )
        return any(limit is not None for limit in limits)


_INFINITY = float("inf")
_RANGES = (
    ("max_logit_error", 0.0, _INFINITY),
    ("max_check_kl", 0.0, _INFINITY),
    ("max_self_kl", 0.0, _INFINITY),
    ("max_mean_kl", 0.0, _INFINITY),
    ("max_p99_kl", 0.0, _INFINITY),
    ("min_top1", 0.0, 1.0),
    ("max_perplexity_ratio", 0.0, _INFINITY),
    ("max_confident_changes", 0.0, 1.0),
    ("max_average_kl", 0.0, _INFINITY),
    ("min_cosine", -1.0, 1.0),
    ("min_recall", 0.0, 1.0),
)

FP32_BUDGET = Budget(max_logit_error=FP32_LOGIT_ERROR, same_greedy_tokens=True)


def quality_budget(
    *,
    max_mean_kl: float,
    max_p99_kl: float | None = None,
    min_top1: float | None = None,
    max_perplexity_ratio: float | None = None,
    max_confident_changes: float | None = None,
    max_average_kl: float | None = None,
    min_cosine: float | None = None,
    min_recall: float | None = None,
) -> Budget:
    """A budget for reduced precision. Single prompts may have ten times the mean divergence, and at least 0.1 nats."""
    return Budget(
        max_check_kl=max(0.1, 10 * max_mean_kl),
        max_self_kl=SELF_KL,
        max_mean_kl=max_mean_kl,
        max_p99_kl=max_p99_kl,
        min_top1=min_top1,
        max_perplexity_ratio=max_perplexity_ratio,
        max_confident_changes=max_confident_changes,
        max_average_kl=max_average_kl,
        min_cosine=min_cosine,
        min_recall=min_recall,
    )
