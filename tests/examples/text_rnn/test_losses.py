"""The losses' gradients, from autograd and from their formulas, against finite differences in float64."""

from __future__ import annotations

import math

import pytest
import torch

from examples.text_rnn.losses import IGNORED, cross_entropy, loss_of, mean_squared_error

STEP = 1e-6
# Central differences of a smooth function in float64: an error of about STEP squared, and of rounding over STEP.
TOLERANCE = {"atol": 1e-8, "rtol": 1e-6}


def finite_differences(function, point: torch.Tensor) -> torch.Tensor:
    """The gradient of a scalar function by central differences, one number at a time."""
    gradient = torch.zeros_like(point)
    for place in range(point.numel()):
        above, below = point.clone(), point.clone()
        above.view(-1)[place] += STEP
        below.view(-1)[place] -= STEP
        gradient.view(-1)[place] = (function(above) - function(below)) / (2 * STEP)
    return gradient


def autograd(function, point: torch.Tensor) -> torch.Tensor:
    point = point.clone().requires_grad_()
    function(point).backward()
    return point.grad


def random_rows(rows: int = 5, columns: int = 4) -> tuple[torch.Tensor, torch.Tensor]:
    generator = torch.Generator().manual_seed(11)
    logits = 2 * torch.randn(rows, columns, dtype=torch.float64, generator=generator)
    return logits, torch.randint(columns, (rows,), generator=generator)


def test_gradient_of_cross_entropy_is_p_minus_y():
    logits, targets = random_rows()
    formula = (logits.softmax(1) - torch.nn.functional.one_hot(targets, 4)) / len(targets)
    torch.testing.assert_close(finite_differences(lambda z: cross_entropy(z, targets), logits), formula, **TOLERANCE)
    torch.testing.assert_close(autograd(lambda z: cross_entropy(z, targets), logits), formula)


def test_gradient_of_a_weight_is_the_error_times_the_input():
    """Two classes, one weight vector: dL/dw = (p - y) x and dL/db = p - y."""
    x, w, b, y = torch.tensor([0.5, -2.0, 1.5], dtype=torch.float64), torch.tensor([0.3, 0.1, -0.7]).double(), 0.2, 1.0

    def loss(weights, bias=b):
        p = torch.sigmoid(weights @ x + bias)
        return -(y * torch.log(p) + (1 - y) * torch.log(1 - p))

    p = torch.sigmoid(w @ x + b)
    torch.testing.assert_close(finite_differences(loss, w), (p - y) * x, **TOLERANCE)
    bias = finite_differences(lambda inputs: loss(w, inputs), torch.tensor(b, dtype=torch.float64))
    torch.testing.assert_close(bias, p - y, **TOLERANCE)


def test_gradient_of_a_weight_matrix_is_the_outer_product():
    _, targets = random_rows(1, 4)
    x, weights = torch.tensor([0.4, -1.1, 2.0], dtype=torch.float64), torch.randn(4, 3, dtype=torch.float64)
    actual = finite_differences(lambda w: cross_entropy((w @ x)[None], targets), weights)
    error = (weights @ x).softmax(0) - torch.nn.functional.one_hot(targets[0], 4)
    torch.testing.assert_close(actual, torch.outer(error, x), **TOLERANCE)


def test_gradient_of_the_mean_squared_error_is_its_formula():
    logits, targets = random_rows()
    p = logits.softmax(1)
    d = p - torch.nn.functional.one_hot(targets, 4)
    formula = 2 / len(targets) * p * (d - (p * d).sum(1, keepdim=True))
    actual = finite_differences(lambda z: mean_squared_error(z, targets), logits)
    torch.testing.assert_close(actual, formula, **TOLERANCE)
    torch.testing.assert_close(autograd(lambda z: mean_squared_error(z, targets), logits), formula)


def test_losses_of_numbers_done_by_hand():
    logits, targets = torch.tensor([[0.0, 0.0], [0.0, math.log(3)]]), torch.tensor([0, 1])
    # p = (1/2, 1/2) and (1/4, 3/4).
    assert cross_entropy(logits, targets).item() == pytest.approx((math.log(2) + math.log(4 / 3)) / 2)
    assert mean_squared_error(logits, targets).item() == pytest.approx((0.5 + 0.125) / 2)


@pytest.mark.parametrize("name", ["cross-entropy", "mse"])
def test_padding_does_not_count(name):
    logits, targets = random_rows()
    padded = torch.cat([targets, torch.tensor([IGNORED])])
    with_padding = loss_of(name, torch.cat([logits, 100 * logits[:1]]), padded)
    torch.testing.assert_close(with_padding, loss_of(name, logits, targets))
