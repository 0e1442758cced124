"""The two losses, with their formulas and gradients.

z are a row's scores (logits), p = softmax(z) its probabilities, p_k = exp(z_k) / sum_j exp(z_j), and y the target as a
vector that is 1 at the right class and 0 elsewhere. N rows are averaged; rows that stand for padding do not count.

Where z = W x + b, the chain rule gives dL/dW = (dL/dz) x^T and dL/db = dL/dz. So for cross-entropy dL/dW = (p - y) x^T:
the input times the error of the prediction, with no logarithm left. With two classes and p = sigmoid(w x + b) it is
dL/dw = (p - y) x (Bishop 2006, Pattern Recognition and Machine Learning, equations 4.91 and 4.109).
"""

from __future__ import annotations

from typing import Literal, get_args

from torch import Tensor
from torch.nn import functional

Loss = Literal["cross-entropy", "mse"]
LOSSES: tuple[Loss, ...] = get_args(Loss)
IGNORED = -100  # target of a row that is padding


def loss_of(name: Loss, logits: Tensor, targets: Tensor) -> Tensor:
    """The mean loss of rows.

    Args:
        name: which loss.
        logits: float32 [N, K].
        targets: int64 [N], 0..K - 1 or `IGNORED`; at least one row counts.

    Returns:
        A scalar.
    """
    return cross_entropy(logits, targets) if name == "cross-entropy" else mean_squared_error(logits, targets)


def cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    """L = -(1/N) sum_n log p_n[y_n]; dL/dz_n = (p_n - y_n) / N.

    The negative log-likelihood of the right classes, computed from logits without leaving the logarithm.
    """
    return functional.cross_entropy(logits, targets, ignore_index=IGNORED)


def mean_squared_error(logits: Tensor, targets: Tensor) -> Tensor:
    """L = (1/N) sum_n sum_k (p_nk - y_nk)^2; dL/dz_nk = (2/N) p_nk (d_nk - sum_j p_nj d_nj) with d = p - y.

    The score of Brier 1950 (Verification of forecasts expressed in terms of probability). Between 0 and 2. Its gradient
    vanishes where a prediction is confidently wrong, which is why classifiers are rarely trained with it.
    """
    counted = targets != IGNORED
    probabilities = functional.softmax(logits[counted], dim=1)
    truth = functional.one_hot(targets[counted], logits.shape[1]).to(logits.dtype)
    return (probabilities - truth).square().sum(dim=1).mean()
