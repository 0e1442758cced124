"""`nn.LSTM`, `nn.GRU` and `nn.RNN` as ONNX's own operators, for any number of tokens and rows.

torch's exporter unrolls these layers over the example's tokens without saying so (torch 2.13, pytorch issue 191855).
While a module is traced, its recurrent layers answer with one operator per layer instead. ONNX orders gates differently
(LSTM: i, o, f, c for torch's i, f, g, o; GRU: z, r, h for r, z, n) and stacks both directions in one tensor, so the
weights are copied into that form once; in the graph they have the names of the forward direction's parameters.

Source: the specifications of LSTM-22, GRU-22 (``linear_before_reset=1`` is torch's form) and RNN-22 of ONNX.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.graph.recurrent_weights import GATE_ORDERS
from jisu.exporter.tracing.operators import OPSET

# The child under which a layer holds its weights in ONNX's form while it is traced; names in the graph lose it.
HOLDER = "in_onnx_form"
_STATES = {"LSTM": 2, "GRU": 1, "RNN": 1}


@contextlib.contextmanager
def recurrent_operators(root: nn.Module) -> Iterator[None]:
    """Let every recurrent layer below ``root`` be traced as an operator while the block runs.

    Raises:
        InputError: a layer has a form that ONNX has no operator for.
    """
    layers = [(name, child) for name, child in root.named_modules() if isinstance(child, nn.RNNBase)]
    for name, layer in layers:
        _check(name, layer)
    # The classes' own forward is exchanged, not the layers': a class of the user's own may call it from another one.
    own = {kind: kind.forward for kind in (nn.LSTM, nn.GRU, nn.RNN)}
    try:
        for _, layer in layers:
            layer.add_module(HOLDER, _Weights(layer))
        for kind in own:
            kind.forward = _forward  # type: ignore[assignment, method-assign]
        yield
    finally:
        for kind, forward in own.items():
            kind.forward = forward  # type: ignore[method-assign]
        for _, layer in layers:
            layer._modules.pop(HOLDER, None)


def onnx_weights(root: nn.Module) -> dict[str, Tensor]:
    """The weights of all recurrent layers as the graph has them, by their names in it."""
    layers = [(name, child) for name, child in root.named_modules() if isinstance(child, nn.RNNBase)]
    return {
        f"{name}.{one}" if name else one: parameter.detach()
        for name, layer in layers
        for one, parameter in _Weights(layer).named_parameters()
    }


@dataclass(frozen=True, kw_only=True)
class _Depth:
    """One depth of a layer: its weights W [D, G*H, I], R [D, G*H, H] and B [D, 2*G*H], for D directions and G gates."""

    weight: Tensor
    recurrence: Tensor
    bias: Tensor | None


class _Weights(nn.Module):
    """A layer's weights in ONNX's form, as parameters, so that they are traced like any others."""

    def __init__(self, layer: nn.RNNBase) -> None:
        super().__init__()
        order = GATE_ORDERS[_operator(layer)]
        for depth in range(layer.num_layers):
            for stem in ("weight_ih", "weight_hh"):
                both = [_reordered(getattr(layer, name), order) for name in _names(layer, stem, depth)]
                self.register_parameter(f"{stem}_l{depth}", nn.Parameter(torch.stack(both), requires_grad=False))
            if layer.bias:
                pairs = zip(_names(layer, "bias_ih", depth), _names(layer, "bias_hh", depth), strict=True)
                both = [torch.cat([_reordered(getattr(layer, name), order) for name in pair]) for pair in pairs]
                self.register_parameter(f"bias_l{depth}", nn.Parameter(torch.stack(both), requires_grad=False))

    def depth(self, number: int) -> _Depth:
        parameters = dict(self.named_parameters())
        return _Depth(
            weight=parameters[f"weight_ih_l{number}"],
            recurrence=parameters[f"weight_hh_l{number}"],
            bias=parameters.get(f"bias_l{number}"),
        )


def _forward(layer: nn.RNNBase, input: Tensor, hx: Any = None) -> Any:  # noqa: A002 - torch's name of the argument
    """torch's forward of a recurrent layer: [B, T, I] (or [T, B, I]) in, the outputs and the states after it out.

    The batch must have its axis: sequences that were packed, or come without a batch, have other shapes than a graph.
    """
    if not torch.is_tensor(input) or input.dim() != 3:
        raise InputError(
            f"The layer {type(layer).__name__} has an input that cannot be exported",
            received="a packed sequence" if not torch.is_tensor(input) else f"{input.dim()} dimensions",
            allowed="a tensor of rows, tokens and features",
            fix="Feed padded tensors with a batch axis.",
        )
    hidden = input.transpose(0, 1) if layer.batch_first else input
    initial: list[Tensor | None] = [None] * _STATES[_operator(layer)]
    if hx is not None:
        initial = list(hx) if isinstance(hx, (tuple, list)) else [hx]
    directions = 2 if layer.bidirectional else 1
    after: list[list[Tensor]] = []
    for number in range(layer.num_layers):
        rows = slice(number * directions, (number + 1) * directions)
        before = [None if state is None else state[rows] for state in initial]
        hidden, *states = _one_depth(layer, hidden, before, getattr(layer, HOLDER).depth(number))
        after.append(states)
    output = hidden.transpose(0, 1) if layer.batch_first else hidden
    joined = [torch.cat(parts) if len(parts) > 1 else parts[0] for parts in zip(*after, strict=True)]
    return output, tuple(joined) if len(joined) > 1 else joined[0]


def _one_depth(layer: nn.RNNBase, hidden: Tensor, before: Sequence[Tensor | None], depth: _Depth) -> list[Tensor]:
    """[T, B, I] -> the outputs [T, B, D*H] and each state after the last token, [D, B, H]."""
    tokens, rows, _ = hidden.shape
    directions, size = len(depth.weight), layer.hidden_size
    operator = _operator(layer)
    attributes: dict[str, Any] = {"hidden_size": size, "direction": "bidirectional" if directions == 2 else "forward"}
    if operator == "GRU":
        attributes["linear_before_reset"] = 1
    if operator == "RNN":
        attributes["activations"] = [{"tanh": "Tanh", "relu": "Relu"}[str(layer.nonlinearity)]] * directions
    count = _STATES[operator]
    outputs = torch.onnx.ops.symbolic_multi_out(
        operator,
        (hidden, depth.weight, depth.recurrence, depth.bias, None, *before),
        attributes,
        dtypes=[hidden.dtype] * (1 + count),
        shapes=[(tokens, directions, rows, size), *[(directions, rows, size)] * count],
        version=OPSET,
    )
    # Directions lie side by side in torch's output: [T, D, B, H] -> [T, B, D*H].
    merged = outputs[0].transpose(1, 2).reshape(tokens, rows, directions * size)
    return [merged, *outputs[1:]]


def _names(layer: nn.RNNBase, stem: str, depth: int) -> list[str]:
    """Names of one parameter, forward and, where there is one, backward."""
    return [f"{stem}_l{depth}{direction}" for direction in (("", "_reverse") if layer.bidirectional else ("",))]


def _reordered(parameter: Tensor, order: Sequence[int]) -> Tensor:
    gates = parameter.detach().chunk(len(order))
    return torch.cat([gates[number] for number in order])


def _operator(layer: nn.RNNBase) -> str:
    return "RNN" if layer.mode.startswith("RNN") else layer.mode


def _check(name: str, layer: nn.RNNBase) -> None:
    if getattr(layer, "proj_size", 0):
        raise InputError(
            f"The layer {name.partition('.')[2] or name} projects its state, for which ONNX has no operator",
            received=f"{type(layer).__name__} with proj_size={layer.proj_size}",
            allowed="recurrent layers without proj_size",
            fix="Put an nn.Linear behind the layer instead.",
        )
