"""What rounding a matrix will cost the whole model's predictions, from one backward pass over a few windows.

Nothing is rounded and measured: a small change d of a layer's outputs moves the next-token distribution by
KL = 1/2 d^T F d, where F = E[g g^T] is the Fisher information and g the gradient of the log-likelihood of a token drawn
from the model's own distribution. Dong et al. 2020 ("HAWQ-V2", section 3) choose bits by the trace of such a matrix and
the size of the change; here the change is that of the outputs, token by token: 1/2 mean over tokens of
sum(g**2) * mean(d**2). Errors of different matrices are taken to be independent, so that what they cost adds up.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.calibration.model.whole_sequences import run_whole
from jisu.calibration.weights.formats import Floats

if TYPE_CHECKING:
    import torch

TokenIds = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class SeenInput:
    """Matrices of one shape that read one input, on a few tokens.

    Attributes:
        names: full names of the linear layers.
        rows: what enters them, float32 [S, K].
        weights: of each layer and token, the sum over its outputs of the squared gradient, float32 [layers, S].
    """

    names: tuple[str, ...]
    rows: Floats
    weights: Floats

    def divergence(self, differences: Sequence[Floats]) -> float:
        """Mean KL divergence in nats per token when the weights [N, K] change by so much, the layers in order."""
        import torch

        rows, total = torch.from_numpy(self.rows), 0.0
        for weights, difference in zip(self.weights, differences, strict=True):
            moved = (rows @ torch.from_numpy(difference).T).square_().mean(dim=1)
            total += 0.5 * float((torch.from_numpy(weights) * moved).double().mean())
        return total


def observe(
    model: torch.nn.Module,
    first: torch.nn.Module,
    names: Sequence[str],
    windows: Sequence[TokenIds],
    *,
    tokens: int,
    seed: int = 0,
    progress: Callable[[int, int], None] | None = None,
) -> list[SeenInput]:
    """Run windows forward and backward and keep what is needed to judge changes of linear layers.

    A layer that no gradient reaches, or only one that is not finite, is in none of the results.

    Args:
        model: gives logits, see `run_whole`; its weights and modes are as before when this returns.
        first: the first of its decoder layers: gradients end at what enters it.
        names: full names of linear layers behind that.
        windows: token ids, int64 [T] each.
        tokens: of each window, drawn with ``seed``, as are the predicted tokens.

    Returns:
        In the order in which the layers are called; nothing where the model's logits are not finite.
    """
    import torch

    drawn, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    groups: dict[tuple[str, ...], tuple[list[Any], list[Any]]] = {}
    with _differentiable(model, first):
        for number, window in enumerate(windows):
            places = torch.from_numpy(np.sort(drawn.permutation(len(window))[:tokens]))
            with _watching(model, names, places) as seen:
                logits = run_whole(model, torch.from_numpy(np.ascontiguousarray(window))[None])
                likelihoods = logits.reshape(-1, logits.shape[-1]).float().log_softmax(-1)
                if not torch.isfinite(likelihoods).all():
                    return []  # quantizing names the layer
                chosen = torch.multinomial(likelihoods.detach().exp(), 1, generator=generator)
                likelihoods.gather(1, chosen).sum().backward()  # type: ignore[no-untyped-call]
            for group in seen:
                if group.weights.keys() == set(group.names):
                    rows, weights = groups.setdefault(tuple(group.names), ([], []))
                    rows.append(group.rows)
                    weights.append(torch.stack([group.weights[name] for name in group.names]))
            if progress:
                progress(number + 1, len(windows))
    results = []
    for members, (rows, weights) in groups.items():
        result = SeenInput(names=members, rows=torch.cat(rows).numpy(), weights=torch.cat(weights, dim=1).numpy())
        if np.isfinite(result.weights).all() and np.isfinite(result.rows).all():
            results.append(result)
    return results


class _Group:
    """Layers that are called with one tensor, in one forward."""

    def __init__(self, tensor: torch.Tensor, shape: tuple[int, ...], rows: torch.Tensor) -> None:
        self.tensor, self.shape, self.rows = tensor, shape, rows
        self.names: list[str] = []
        self.weights: dict[str, torch.Tensor] = {}


@contextmanager
def _watching(model: torch.nn.Module, names: Sequence[str], places: torch.Tensor) -> Iterator[list[_Group]]:
    groups: list[_Group] = []

    def watch(name: str) -> Callable[[torch.nn.Module, tuple[Any, ...], torch.Tensor], None]:
        def hook(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, tuple):  # a router and what it chose
                return
            shape = tuple(module.weight.shape)
            group = next((one for one in groups if one.tensor is inputs[0] and one.shape == shape), None)
            if group is None:
                rows = inputs[0].detach().reshape(-1, shape[1])
                group = _Group(inputs[0], shape, rows[places].float().cpu().clone())
                groups.append(group)
            group.names.append(name)
            if output.requires_grad:
                output.register_hook(keep(group, name, shape))

        return hook

    def keep(group: _Group, name: str, shape: tuple[int, ...]) -> Callable[[torch.Tensor], None]:
        def hook(gradient: torch.Tensor) -> None:
            group.weights[name] = gradient.reshape(-1, shape[0])[places].float().square().sum(dim=1).cpu()

        return hook

    handles = [model.get_submodule(name).register_forward_hook(watch(name)) for name in names]
    try:
        yield groups
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _differentiable(model: torch.nn.Module, first: torch.nn.Module) -> Iterator[None]:
    """Gradients of activations from the first layer's input on, none of weights; evaluation mode."""
    import torch

    def hook(_: Any, inputs: tuple[Any, ...], named: dict[str, Any]) -> tuple[tuple[Any, ...], dict[str, Any]]:
        if inputs:
            return (inputs[0].detach().requires_grad_(), *inputs[1:]), named
        return inputs, {**named, "hidden_states": named["hidden_states"].detach().requires_grad_()}

    training, needed = model.training, [one for one in model.parameters() if one.requires_grad]
    handle = first.register_forward_pre_hook(hook, with_kwargs=True)
    try:
        model.eval()
        for parameter in needed:
            parameter.requires_grad = False
        with torch.enable_grad():
            yield
    finally:
        handle.remove()
        model.train(training)
        for parameter in needed:
            parameter.requires_grad = True
