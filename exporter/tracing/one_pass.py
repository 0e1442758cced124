"""Any module that reads a whole text at once, and its trace: no state, nothing carried on.

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
from transformers import AttentionInterface, AttentionMaskInterface
from transformers.masking_utils import bidirectional_mask_function

from jisu.exporter.contract.artifact import CLASSIFICATION, PER_TOKEN_KINDS, ModelKind
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS, TOKEN_TYPE_IDS
from jisu.exporter.sources.experts import find_experts
from jisu.exporter.sources.layers import LayerStack, find_layers, only_first_layers
from jisu.exporter.sources.module_kind import model_of_transformers
from jisu.exporter.sources.one_pass_outputs import output_names, output_tensors
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.tracing.layer_bodies import NotRepeatableError
from jisu.exporter.tracing.parameters import float32_tensor, parameter_of
from jisu.exporter.tracing.routing import SPELLED_OUT, attend, routed_by_us
from jisu.exporter.tracing.stamp import find_bodies, stamp_layers
from jisu.exporter.tracing.torch_exporter import run_exporter
from jisu.exporter.tracing.trace import clean, dims_of, name_outputs, rename_dims

ATTENTION = "jisu-whole-text"
# Sizes of the example: different, and above one, since torch.export fixes dimensions of size 0 and 1.
_BATCH, _TOKENS = 2, 5


class OnePass(nn.Module):
    """A module as ``forward(input_ids[, attention_mask][, token_type_ids]) -> tuple of tensors``.

    Args:
        kind: what the module is for; `exporter.sources.one_pass_outputs.output_names` says which tensors these are.
        takes_types: whether it is asked about pairs of texts, whose tokens have types.

    Attributes:
        inputs: names of the forward's arguments. A module that takes no mask of padding sees all of it, so that its
            rows have to be of one length.
    """

    weight_prefix = "model."

    def __init__(self, model: nn.Module, kind: ModelKind = CLASSIFICATION, *, takes_types: bool = False) -> None:
        super().__init__()
        self.model = model
        self.kind = kind
        accepted = inspect.signature(model.forward).parameters
        more = {ATTENTION_MASK: ATTENTION_MASK in accepted, TOKEN_TYPE_IDS: takes_types}
        self.inputs = (INPUT_IDS, *(name for name, is_taken in more.items() if is_taken))
        self._more = {"use_cache": False} if "use_cache" in accepted else {}
        self._attention = ATTENTION if self._asks_for_attention() else SPELLED_OUT

    def forward(
        self, input_ids: Tensor, attention_mask: Tensor | None = None, token_type_ids: Tensor | None = None
    ) -> tuple[Tensor, ...]:
        """Read whole texts.

        Args:
            input_ids: int64 [B, T], rows padded on the right.
            attention_mask: int64 [B, T], 1 for a token and 0 for padding; given exactly when it is one of `inputs`.
            token_type_ids: int64 [B, T], 0 for the first text of a pair and 1 for the second; likewise.

        Returns:
            float32 tensors, see `exporter.sources.one_pass_outputs.output_tensors`.
        """
        tensors = {ATTENTION_MASK: attention_mask, TOKEN_TYPE_IDS: token_type_ids}
        more = {name: tensors[name] for name in self.inputs[1:]}
        with _attention_of(self.model, self._attention), _experts_of(self.model):
            output = self.model(input_ids, **self._more, **more)
        return output_tensors(self.kind, output, model=type(self.model).__name__)

    def _asks_for_attention(self) -> bool:
        """Whether the model asks transformers' interface for its attention, found out by listening to two tokens."""
        if model_of_transformers(self.model) is None:
            return False
        calls = []

        def listen(*arguments: Any, **options: Any) -> tuple[Tensor, None]:
            calls.append(False)
            output = attend(*arguments, **options)  # raises at what it does not know, which the model then does itself
            calls[-1] = True
            return output

        two = torch.tensor([[0, 1]])
        more = {**self._more, **({ATTENTION_MASK: torch.ones_like(two)} if ATTENTION_MASK in self.inputs else {})}
        ours = _attention_of(self.model, ATTENTION, attention_function=listen)
        with quiet_transformers(), torch.inference_mode(), contextlib.suppress(Exception), ours:
            self.model(two, **more)
        return bool(calls) and all(calls)


class _Root(nn.Module):
    """Gives every parameter one known prefix, whatever the traced module is."""

    def __init__(self, traced: OnePass) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, *inputs: Tensor) -> tuple[Tensor, ...]:
        # The exporter hands all of them over by place.
        tensors: tuple[Tensor, ...] = self.traced(**dict(zip(self.traced.inputs, inputs, strict=True)))
        return tensors


def trace_one_pass(
    module: OnePass, *, columns: int, max_positions: int | None = None, repeats: bool = True
) -> ir.Model:
    """Trace once, and repeat the layers that are equal.

    Args:
        module: in eval mode.
        columns: numbers in a row of the answer: labels, words, or dimensions of a vector.
        max_positions: tokens of the longest text, where there is a limit.
        repeats: see `exporter.tracing.trace.trace`.

    Returns:
        A graph with the module's inputs, int64 [B, T], and as outputs, float32, the tensors that
        `exporter.sources.one_pass_outputs.output_names` lists. Weights are views of the module's parameters, not
        copies.

    Raises:
        InputError: the module cannot be traced, lost an input, or froze a dimension that has to stay dynamic.
    """
    root = _Root(module).eval()
    stack = find_layers(root)
    if repeats and stack is not None and stack.traced < stack.total:
        try:
            return _trace_prefix(root, stack, columns, max_positions)
        except NotRepeatableError as reason:
            logging.getLogger(__name__).info("Tracing every layer: %s.", reason)
    model = _export(root, max_positions)
    hidden: list[ir.Value] = []
    if stack is not None:
        with contextlib.suppress(NotRepeatableError):
            hidden = [body.hidden for body in find_bodies(model.graph, stack.path, stack.total, may_end=True)]
    return _finish(root, model, columns, hidden)


def _trace_prefix(root: _Root, stack: LayerStack, columns: int, max_positions: int | None) -> ir.Model:
    with only_first_layers(root, stack):
        model = _export(root, max_positions)
    hidden = stamp_layers(
        model.graph, stack, "", lambda name: float32_tensor(parameter_of(root, name), name), state_per_layer=0
    )
    return _finish(root, model, columns, hidden)


def _export(root: _Root, max_positions: int | None) -> ir.Model:
    """Run torch's exporter on two rows of example tokens, one of them padded: a mask of ones alone is pruned."""
    ids = torch.ones((_BATCH, _TOKENS), dtype=torch.int64)
    mask = torch.ones_like(ids)
    mask[1, 3:] = 0
    types = torch.zeros_like(ids)
    types[:, 2:] = 1
    example = {INPUT_IDS: ids, ATTENTION_MASK: mask, TOKEN_TYPE_IDS: types}
    dims = {0: torch.export.Dim("B", min=1), 1: torch.export.Dim("T", min=1, max=max_positions)}
    names = root.traced.inputs
    return run_exporter(root, tuple(example[name] for name in names), ((dims,) * len(names),))


def _finish(root: _Root, model: ir.Model, columns: int, hidden: list[ir.Value]) -> ir.Model:
    """Give inputs, outputs and dimensions their names, and check that nothing was lost or frozen on the way."""
    graph, name = model.graph, type(root.traced.model).__name__
    names, outputs = root.traced.inputs, output_names(root.traced.kind)
    unread = [input_name for input_name, value in zip(names, graph.inputs, strict=False) if not value.uses()]
    if len(graph.inputs) != len(names) or len(graph.outputs) != len(outputs) or unread:
        raise InputError(
            f"The trace of {name} lost an input",
            received=f"nothing reads {', '.join(unread)}" if unread else f"{len(graph.inputs)} inputs",
            allowed=f"a forward that uses {' and '.join(names)}",
            fix="Make the forward use it, or take it out of its arguments.",
        )
    for value, input_name in zip(graph.inputs, names, strict=True):
        value.name = input_name
    name_outputs(graph, list(outputs))
    letters = {str(dims): letter for dims, letter in zip(dims_of(graph.inputs[0]), ("B", "T"), strict=True)}
    for value in (*graph.inputs, *(output for node in graph.all_nodes() for output in node.outputs)):
        rename_dims(value, letters)
    _check_dims(graph, root.traced.kind, columns, name)
    clean(root, model, hidden)
    return model


def _check_dims(graph: ir.Graph, kind: ModelKind, columns: int, name: str) -> None:
    """Raise InputError for an input or output whose dims are not what its kind of model has."""
    answer = output_names(kind)[-1]
    for value in (*graph.inputs, *graph.outputs):
        dims = dims_of(value)
        allowed: tuple[int | str, ...] = ("B", "T")
        if value.name == answer:
            allowed = ("B", "T", columns) if kind in PER_TOKEN_KINDS else ("B", columns)
        elif value.name in output_names(kind):
            allowed = ("B", "T", dims[-1])  # a hidden state, of whatever size
        if dims == allowed:
            continue
        named = dims[:-1] == allowed[:-1] and value.name == answer
        raise InputError(
            f"The trace of {name} froze or changed a dimension of {value.name}",
            received=f"dims {list(dims)}",
            allowed=f"dims {list(allowed)}",
            fix=f"Name as many labels as the {answer} have columns."
            if named
            else "Remove what depends on the example's sizes from the forward.",
        )


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


def _experts_of(model: nn.Module) -> contextlib.AbstractContextManager[None]:
    """Compute the experts of a mixture in the form that a graph can hold, for one call."""
    inner = model_of_transformers(model)
    mixes = inner is not None and any(True for _ in find_experts(inner))
    return routed_by_us(inner) if inner is not None and mixes else contextlib.nullcontext()


@contextlib.contextmanager
def _attention_of(
    model: nn.Module, implementation: str, *, attention_function: Callable[..., Any] = attend
) -> Iterator[None]:
    """Route a transformers model's attention and masks for one call, then restore its own choice."""
    inner = model_of_transformers(model)
    before = implementation if inner is None else inner.config._attn_implementation
    if inner is None or before == implementation:
        yield
        return
    if implementation == ATTENTION:
        AttentionInterface.register(ATTENTION, attention_function)
        AttentionMaskInterface.register(ATTENTION, _mask)
    try:
        inner.set_attn_implementation(implementation)
        yield
    finally:
        inner.set_attn_implementation(before)
