"""The optimizers against their published updates, written out by element."""

from __future__ import annotations

import torch

from examples.text_rnn.optimizers import BETA1, BETA2, EPSILON, build_optimizer


def steps(name: str, *, rate: float, count: int = 6) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    """Parameters after each step of minimizing sum(c (theta - 1)^4), and the gradients they came from."""
    scale = torch.tensor([1.0, 10.0, 0.01], dtype=torch.float64)
    theta = torch.nn.Parameter(torch.tensor([3.0, -1.0, 0.5], dtype=torch.float64))
    optimizer = build_optimizer(name, [theta], rate=rate)
    points, gradients = [theta.detach().clone()], []
    for _ in range(count):
        optimizer.zero_grad()
        (scale * (theta - 1) ** 4).sum().backward()
        gradients.append(theta.grad.clone())
        optimizer.step()
        points.append(theta.detach().clone())
    return points, gradients


def test_adam_is_algorithm_1_of_kingma_and_ba():
    rate = 0.05
    points, gradients = steps("adam", rate=rate)
    theta, m, v = points[0], torch.zeros(3, dtype=torch.float64), torch.zeros(3, dtype=torch.float64)
    for t, gradient in enumerate(gradients, start=1):
        m = BETA1 * m + (1 - BETA1) * gradient
        v = BETA2 * v + (1 - BETA2) * gradient**2
        unbiased_m, unbiased_v = m / (1 - BETA1**t), v / (1 - BETA2**t)
        theta = theta - rate * unbiased_m / (unbiased_v.sqrt() + EPSILON)
        torch.testing.assert_close(points[t], theta, atol=1e-12, rtol=1e-12)


def test_first_step_of_adam_is_the_rate_whatever_the_gradient():
    points, _ = steps("adam", rate=0.05, count=1)
    torch.testing.assert_close(
        (points[1] - points[0]).abs(), torch.full((3,), 0.05, dtype=torch.float64), rtol=1e-4, atol=0
    )


def test_gradient_descent_goes_against_the_gradient():
    points, gradients = steps("sgd", rate=0.01)
    for before, gradient, after in zip(points, gradients, points[1:], strict=False):
        torch.testing.assert_close(after, before - 0.01 * gradient)
