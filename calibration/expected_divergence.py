"""What rounding a matrix will cost the whole model's predictions, from one backward pass over a few windows.

Nothing is rounded and measured: a small change d of a layer's outputs moves the next-token distribution by
KL = 1/2 d^T F d, where F = E[g g^T] is the Fisher information and g the gradient of the log-likelihood of a token drawn
from the model's own distribution. Dong et al. 2020 ("HAWQ-V2", section 3) choose bits by the trace of such a matrix and
the size of the change; here the change is that of the outputs, token by token: 1/2 mean over tokens of
sum(g**2) * mean(d**2). Errors of different matrices are taken to be independent, so that what they cost adds up.
"""

from __future__ import annotations

import weakref
from collections import Counter
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
    layers: Sequence[torch.nn.Module],
    names: Sequence[str],
    windows: Sequence[TokenIds],
    *,
    tokens: int,
    seed: int = 0,
    put_aside: Callable[[torch.Tensor], torch.Tensor] = lambda tensor: tensor,
    recompute: bool = False,
    progress: Callable[[int, int], None] | None = None,
) -> list[SeenInput]:
    """Run windows forward and backward and keep what is needed to judge changes of linear layers.

    A layer that no gradient reaches, or only one that is not finite, is in none of the results. Neither is one that is
    called more than once in a forward.

    Args:
        model: gives logits, see `run_whole`; its weights and modes are as before when this returns.
        layers: its decoder layers in running order: gradients end at what enters the first.
        names: full names of linear layers in or behind them.
        windows: token ids, int64 [T] each.
        tokens: of each window, drawn with ``seed``, as are the predicted tokens.
        put_aside: stores what is kept until the end where it takes no memory.
        recompute: activations within a layer are not held for the backward pass, but computed a second time, with the
            same result. The layers' own hooks are called again; none of them may look for a layer's `forward`.

    Returns:
        In the order in which the layers are called; nothing where the model's logits are not finite.
    """
    import torch

    drawn, generator = np.random.default_rng(seed), torch.Generator().manual_seed(seed)
    groups: dict[tuple[str, ...], tuple[list[Any], list[Any]]] = {}
    with _differentiable(model, layers[0]):
        for number, window in enumerate(windows):
            places = torch.from_numpy(np.sort(drawn.permutation(len(window))[:tokens]))
            with _watching(model, names, places) as seen, _computed_again(layers if recompute else (), seen):
                if not _run_back(model, window, generator, seen):
                    return []  # quantizing names the layer
            called = Counter(name for group in seen.groups for name in group.names)
            for group in seen.groups:
                if group.weights.keys() == set(group.names) and all(called[name] == 1 for name in group.names):
                    rows, weights = groups.setdefault(tuple(group.names), ([], []))
                    rows.append(put_aside(group.rows))
                    weights.append(torch.stack([group.weights[name] for name in group.names]))
            if progress:
                progress(number + 1, len(windows))
    results = []
    for members in list(groups):
        rows, weights = groups.pop(members)
        result = SeenInput(
            names=members, rows=put_aside(torch.cat(rows)).numpy(), weights=torch.cat(weights, dim=1).numpy()
        )
        if np.isfinite(result.weights).all() and np.isfinite(result.rows).all():
            results.append(result)
    return results


def _run_back(model: torch.nn.Module, window: TokenIds, generator: torch.Generator, seen: _Seen) -> bool:
    """Run a window forward and backward; whether its logits are finite. Nothing of either is left when it returns."""
    import torch

    logits = run_whole(model, torch.from_numpy(np.ascontiguousarray(window))[None])
    seen.recording = False
    gradient = _of_drawn_tokens(logits.detach(), generator)
    if gradient is None:
        return False
    logits.backward(gradient)  # type: ignore[no-untyped-call]
    return True


def _of_drawn_tokens(logits: torch.Tensor, generator: torch.Generator) -> torch.Tensor | None:
    """The gradient of the log-likelihood of one token drawn at each position: what the logits have, [1, T, V].

    It is 1 at the token drawn, less the probabilities. None where logits are not finite.
    """
    import torch

    if not torch.isfinite(logits).all():
        return None
    gradient = logits.reshape(-1, logits.shape[-1]).float().softmax(-1)
    chosen = torch.multinomial(gradient, 1, generator=generator)
    gradient.neg_().scatter_add_(1, chosen, torch.ones_like(chosen, dtype=gradient.dtype))
    return gradient.reshape(logits.shape).to(logits.dtype)


class _Group:
    """Layers that are called with one tensor, in one forward."""

    def __init__(self, tensor: torch.Tensor, shape: tuple[int, ...], rows: torch.Tensor) -> None:
        # Not held: with all layers' inputs a backward pass needs as much again.
        self.tensor, self.shape, self.rows = weakref.ref(tensor), shape, rows
        self.names: list[str] = []
        self.weights: dict[str, torch.Tensor] = {}


class _Seen:
    """What a forward and its backward pass have shown."""

    def __init__(self) -> None:
        self.groups: list[_Group] = []
        self.recording = True  # ends with the forward: what is computed again behind it is known already


@contextmanager
def _watching(model: torch.nn.Module, names: Sequence[str], places: torch.Tensor) -> Iterator[_Seen]:
    seen = _Seen()

    def watch(name: str) -> Callable[[torch.nn.Module, tuple[Any, ...], torch.Tensor], None]:
        def hook(module: Any, inputs: tuple[Any, ...], output: Any) -> None:
            if isinstance(output, tuple) or not seen.recording:  # a tuple: a router and what it chose
                return
            shape = tuple(module.weight.shape)
            group = next((one for one in seen.groups if one.tensor() is inputs[0] and one.shape == shape), None)
            if group is None:
                rows = inputs[0].detach().reshape(-1, shape[1])
                group = _Group(inputs[0], shape, rows[places].float().cpu().clone())
                seen.groups.append(group)
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
        yield seen
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def _computed_again(layers: Sequence[torch.nn.Module], seen: _Seen) -> Iterator[None]:
    """Let a backward pass compute each layer's activations again, from its input, instead of holding those of all."""
    from torch.utils.checkpoint import checkpoint

    def replace_forward(layer: Any) -> None:
        own = layer.forward

        def held(*inputs: Any, **named: Any) -> Any:
            return checkpoint(again, *inputs, use_reentrant=False, preserve_rng_state=False, **named)

        def again(*inputs: Any, **named: Any) -> Any:
            if seen.recording:
                return own(*inputs, **named)
            layer.forward = own
            try:
                return layer(*inputs, **named)  # with its hooks, which may bring its weights
            finally:
                layer.forward = held

        layer.forward = held

    before = [vars(layer).get("forward") for layer in layers]
    try:
        for layer in layers:
            replace_forward(layer)
        yield
    finally:
        for layer, forward in zip(layers, before, strict=True):
            vars(layer).pop("forward", None)
            if forward is not None:
                layer.forward = forward


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
