"""The two optimizers, with their update rules. theta are the parameters, g_t the gradient of the loss at step t."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Literal, get_args

import torch
from torch import nn

OptimizerName = Literal["adam", "sgd"]
OPTIMIZERS: tuple[OptimizerName, ...] = get_args(OptimizerName)
LEARNING_RATES: dict[OptimizerName, float] = {"adam": 0.002, "sgd": 0.5}
BETA1, BETA2, EPSILON = 0.9, 0.999, 1e-8
# Gradients of recurrent networks explode now and then: a longer one is scaled to this length (Pascanu et al. 2013,
# On the difficulty of training recurrent neural networks, algorithm 1).
LONGEST_GRADIENT = 1.0


def build_optimizer(name: OptimizerName, parameters: Iterable[nn.Parameter], *, rate: float) -> torch.optim.Optimizer:
    """The optimizer of a name.

    ``sgd``, gradient descent on one batch at a time (Robbins and Monro 1951), with rate a:

        theta_t = theta_{t-1} - a g_t

    ``adam`` (Kingma and Ba 2015, Adam: a method for stochastic optimization, algorithm 1), all products by element:

        m_t = b1 m_{t-1} + (1 - b1) g_t            mean of the gradient, m_0 = 0
        v_t = b2 v_{t-1} + (1 - b2) g_t^2          mean of its square, v_0 = 0
        m'_t = m_t / (1 - b1^t)                    both begin at zero, which makes them too small at first
        v'_t = v_t / (1 - b2^t)
        theta_t = theta_{t-1} - a m'_t / (sqrt(v'_t) + e)
    """
    if name == "sgd":
        return torch.optim.SGD(parameters, lr=rate)
    return torch.optim.Adam(parameters, lr=rate, betas=(BETA1, BETA2), eps=EPSILON)
