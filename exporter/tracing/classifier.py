"""Any module that gives one row of logits for a whole text, and its trace: no state, nothing carried on.

Nothing here knows an architecture. A transformers model that asks the library's interface for its attention gets one
operator for it, with an explicit mask of which keys are seen; any other module is traced as it stands.
"""

from __future__ import annotations

import contextlib
import inspect
import logging
from collections.abc import Callable, Iterator
from typing import Any

import onnx_ir as ir
import torch
from torch import Tensor, nn
from transformers import AttentionInterface, AttentionMaskInterface, PreTrainedModel
from transformers.masking_utils import bidirectional_mask_function

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS, LOGITS
from jisu.exporter.sources.layers import LayerStack, find_layers, only_first_layers
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.tracing.layer_bodies import NotRepeatableError
from jisu.exporter.tracing.routing import SPELLED_OUT, attend
from jisu.exporter.tracing.stamp import find_bodies, stamp_layers
from jisu.exporter.tracing.torch_exporter import run_exporter
from jisu.exporter.tracing.trace import clean, dims_of, name_outputs, parameter_of, rename_dims

ATTENTION = "jisu-whole-text"
# Sizes of the example: different, and above one, since torch.export fixes dimensions of size 0 and 1.
_BATCH, _TOKENS = 2, 5


class Classifier(nn.Module):
    """A module as ``forward(input_ids[, attention_mask]) -> logits``.

    Attributes:
        takes_mask: whether the module takes a mask of padding. One that is not sees all of them, so that its
            rows have to be of one length.
    """

    weight_prefix = "model."

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model
        accepted = inspect.signature(model.forward).parameters
        self.takes_mask = ATTENTION_MASK in accepted
        self._more = {"use_cache": False} if "use_cache" in accepted else {}
        self._attention = ATTENTION if self._asks_for_attention() else SPELLED_OUT

    def forward(self, input_ids: Tensor, attention_mask: Tensor | None = None) -> Tensor:
        """Classify whole texts.

        Args:
            input_ids: int64 [B, T], rows padded on the right.
            attention_mask: int64 [B, T], 1 for a token and 0 for padding; given exactly when the module takes one.

        Returns:
            float32 [B, labels].
        """
        more = {**self._more, **({ATTENTION_MASK: attention_mask} if self.takes_mask else {})}
        with _attention_of(self.model, self._attention):
            output = self.model(input_ids, **more)
        logits = getattr(output, LOGITS, output)
        if not isinstance(logits, Tensor) or logits.dim() != 2:
            raise InputError(
                f"{type(self.model).__name__} does not classify texts",
                received=f"logits of {logits.dim()} dims" if isinstance(logits, Tensor) else type(logits).__name__,
                allowed="logits [B, labels]",
                fix="Return one row of logits for each text.",
            )
        return logits.to(torch.float32)

    def _asks_for_attention(self) -> bool:
        """Whether the model asks transformers' interface for its attention, found out by listening to two tokens."""
        if not isinstance(self.model, PreTrainedModel):
            return False
        calls = []

        def listen(*arguments: Any, **options: Any) -> tuple[Tensor, None]:
            calls.append(False)
            output = attend(*arguments, **options)  # raises at what it does not know, which the model then does itself
            calls[-1] = True
            return output

        two = torch.tensor([[0, 1]])
        more = {**self._more, **({ATTENTION_MASK: torch.ones_like(two)} if self.takes_mask else {})}
        ours = _attention_of(self.model, ATTENTION, attention_function=listen)
        with quiet_transformers(), torch.inference_mode(), contextlib.suppress(Exception), ours:
            self.model(two, **more)
        return bool(calls) and all(calls)


class _Root(nn.Module):
    """Gives every parameter one known prefix, whatever the traced module is."""

    def __init__(self, traced: Classifier) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, *inputs: Tensor) -> Tensor:
        logits: Tensor = self.traced(*inputs)
        return logits


def trace_classifier(
    module: Classifier, *, labels: int, max_positions: int | None = None, repeats: bool = True
) -> ir.Model:
    """Trace once, and repeat the layers that are equal.

    Args:
        module: in eval mode.
        labels: columns that the logits have to have.
        max_positions: tokens of the longest text, where there is a limit.
        repeats: see `exporter.tracing.trace.trace`.

    Returns:
        A graph with inputs ``input_ids`` int64 [B, T] and, where the module takes one, ``attention_mask`` int64 [B, T],
        and the output ``logits`` float32 [B, labels]. Weights are views of the module's parameters, not copies.

    Raises:
        InputError: the module cannot be traced, lost an input, or froze a dimension that has to stay dynamic.
    """
    root = _Root(module).eval()
    stack = find_layers(root)
    if repeats and stack is not None and stack.traced < stack.total:
        try:
            return _trace_prefix(root, stack, labels, max_positions)
        except NotRepeatableError as reason:
            logging.getLogger(__name__).info("Tracing every layer: %s.", reason)
    model = _export(root, max_positions)
    hidden: list[ir.Value] = []
    if stack is not None:
        with contextlib.suppress(NotRepeatableError):
            hidden = [body.hidden for body in find_bodies(model.graph, stack.path, stack.total)]
    return _finish(root, model, labels, hidden)


def _trace_prefix(root: _Root, stack: LayerStack, labels: int, max_positions: int | None) -> ir.Model:
    with only_first_layers(root, stack):
        model = _export(root, max_positions)
    hidden = stamp_layers(
        model.graph, stack, "", lambda name: ir.tensor(parameter_of(root, name), name=name), state_per_layer=0
    )
    return _finish(root, model, labels, hidden)


def _export(root: _Root, max_positions: int | None) -> ir.Model:
    """Run torch's exporter on two rows of example tokens, one of them padded: a mask of ones alone is pruned."""
    ids = torch.ones((_BATCH, _TOKENS), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0
    dims = {0: torch.export.Dim("B", min=1), 1: torch.export.Dim("T", min=1, max=max_positions)}
    count = 2 if root.traced.takes_mask else 1
    return run_exporter(root, (ids, mask)[:count], ((dims,) * count,))


def _finish(root: _Root, model: ir.Model, labels: int, hidden: list[ir.Value]) -> ir.Model:
    """Give inputs, output and dimensions their names, and check that nothing was lost or frozen on the way."""
    graph, name = model.graph, type(root.traced.model).__name__
    names = [INPUT_IDS, ATTENTION_MASK] if root.traced.takes_mask else [INPUT_IDS]
    unread = [input_name for input_name, value in zip(names, graph.inputs, strict=False) if not value.uses()]
    if len(graph.inputs) != len(names) or len(graph.outputs) != 1 or unread:
        raise InputError(
            f"The trace of {name} lost an input",
            received=f"nothing reads {', '.join(unread)}" if unread else f"{len(graph.inputs)} inputs",
            allowed=f"a forward that uses {' and '.join(names)}",
            fix="Make the forward use it, or take it out of its arguments.",
        )
    for value, input_name in zip(graph.inputs, names, strict=True):
        value.name = input_name
    name_outputs(graph, [LOGITS])
    letters = {str(dims): letter for dims, letter in zip(dims_of(graph.inputs[0]), ("B", "T"), strict=True)}
    for value in (*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)):
        rename_dims(value, letters)
    expected = {**dict.fromkeys(names, ("B", "T")), LOGITS: ("B", labels)}
    for value in (*graph.inputs, *graph.outputs):
        dims, allowed = dims_of(value), expected[value.name or ""]
        if dims != allowed:
            raise InputError(
                f"The trace of {name} froze or changed a dimension of {value.name}",
                received=f"dims {list(dims)}",
                allowed=f"dims {list(allowed)}",
                fix="Remove what depends on the example's sizes from the forward."
                if dims[:1] != ("B",) or value.name != LOGITS
                else "Name as many labels as the logits have columns.",
            )
    clean(root, model, hidden)
    return model


def _mask(
    *,
    batch_size: int,
    q_length: int,
    kv_length: int,
    q_offset: Tensor | int,
    mask_function: Callable[..., Any],
    attention_mask: Tensor | None = None,
    device: Any = None,
    **_: Any,
) -> Tensor:
    """The model's own mask rule and the padding: bool [B, 1, T, T], True where a key is seen."""
    batch = torch.arange(batch_size, device=device)[:, None, None, None]
    key = torch.arange(kv_length, device=device)[None, None, None, :]
    seen = torch.ones((batch_size, 1, 1, kv_length), dtype=torch.bool, device=device)
    if attention_mask is not None:
        seen = attention_mask.to(torch.bool)[:, None, None, :kv_length]
    if mask_function is bidirectional_mask_function:  # every query sees the same keys
        return seen.expand(-1, -1, q_length, -1)
    query = torch.arange(q_length, device=device)[None, None, :, None] + q_offset
    head = torch.zeros((1, 1, 1, 1), dtype=torch.int64, device=device)
    rule: Tensor = mask_function(batch, head, query, key)
    return (rule & seen).expand(batch_size, -1, q_length, kv_length)


@contextlib.contextmanager
def _attention_of(
    model: nn.Module, implementation: str, *, attention_function: Callable[..., Any] = attend
) -> Iterator[None]:
    """Route a transformers model's attention and masks for one call, then restore its own choice."""
    before = model.config._attn_implementation if isinstance(model, PreTrainedModel) else implementation
    if not isinstance(model, PreTrainedModel) or before == implementation:
        yield
        return
    if implementation == ATTENTION:
        AttentionInterface.register(ATTENTION, attention_function)
        AttentionMaskInterface.register(ATTENTION, _mask)
    try:
        model.set_attn_implementation(implementation)
        yield
    finally:
        model.set_attn_implementation(before)
