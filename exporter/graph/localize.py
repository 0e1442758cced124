"""After a failure: which decoder layer of the graph is the first to differ from the source's.

The graph is opened again, in memory, with the hidden states after each layer as further outputs; its weights stay where
they are and nothing is written. All of it is best effort: what cannot be told is said, never guessed.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import WEIGHTS
from jisu.exporter.contract.signature import (
    ATTENTION_MASK,
    CAPACITY,
    INPUT_IDS,
    LOGITS_POSITIONS,
    PAST_LENGTH,
    TOKEN_TYPE_IDS,
    Signature,
)

if TYPE_CHECKING:
    import onnx
    import torch

# Key in the graph's metadata: a JSON list with the name of the value that holds each decoder layer's output [B, T, C],
# in order, null where a fusion took it away.
LAYERS_KEY = "jisu.layers"

# In root mean squares of a position's hidden state. Measured on SmolLM2-135M: ONNX Runtime's layers are within 6e-5 of
# torch's; after two layers were exchanged the error is 6.5.
HIDDEN_ERROR = 2e-3

Hidden = npt.NDArray[np.float32]


class OpenGraph(Protocol):
    """Opens a graph in memory whose weights lie in files of a folder; returns what has a session's methods."""

    def __call__(self, model: onnx.ModelProto, *, folder: Path) -> Any: ...


class LayerReference(Protocol):
    """What is needed of a source here: to run it once over some tokens."""

    def logits(self, token_ids: npt.NDArray[np.int64], positions: slice | None = None) -> npt.NDArray[np.float32]: ...


@dataclass(frozen=True, kw_only=True)
class Localization:
    """Error of each layer's output, None where it could not be seen, and the first layer beyond the limit."""

    errors: tuple[float | None, ...]
    first: int | None

    @property
    def sentence(self) -> str:
        unseen = [layer for layer, error in enumerate(self.errors[: self.first]) if error is None]
        listed = ", ".join(str(layer) for layer in unseen)
        if self.first is None:
            also = f"layers {listed} (which the graph does not show), " if unseen else ""
            return f"No decoder layer that can be seen differs: look at {also}the final norm and the output projection."
        hedge = f" or {self.first - 1}, which the graph does not show" if self.first - 1 in unseen else ""
        return f"The first decoder layer that differs is layer {self.first}{hedge}."


def locate_layer(
    graph: Path,
    *,
    signature: Signature,
    reference: LayerReference,
    layers: torch.nn.ModuleList,
    token_ids: npt.NDArray[np.int64],
    open_graph: OpenGraph | None = None,
) -> str | None:
    """One sentence for the gate's message, or None when the graph does not say where its layers end."""
    difference = compare_layers(
        graph, signature=signature, reference=reference, layers=layers, token_ids=token_ids, open_graph=open_graph
    )
    return difference.sentence if difference else None


def compare_layers(
    graph: Path,
    *,
    signature: Signature,
    reference: LayerReference,
    layers: torch.nn.ModuleList,
    token_ids: npt.NDArray[np.int64],
    open_graph: OpenGraph | None = None,
) -> Localization | None:
    """Run one prompt, int64 [T], through graph and source and compare what comes out of each decoder layer.

    Args:
        open_graph: opens a graph in memory, as one that is larger than memory needs; None opens it as a whole.
    """
    import onnx

    model = onnx.load(str(graph), load_external_data=False)
    names = _layer_names(model, len(layers))
    if not any(names):
        return None
    opens = open_graph or _open_whole
    ours = _graph_states(partial(opens, folder=graph.parent), model, signature, token_ids, [n for n in names if n])
    theirs = _source_states(reference, layers, token_ids)
    errors = tuple(hidden_error(truth, ours[name]) if name else None for truth, name in zip(theirs, names, strict=True))
    # Written so that NaN counts as differing.
    wrong = [index for index, error in enumerate(errors) if error is not None and not (error <= HIDDEN_ERROR)]
    return Localization(errors=errors, first=wrong[0] if wrong else None)


def hidden_error(truth: Hidden, candidate: Hidden) -> float:
    """The largest of max |candidate - truth| over the channels, in root mean squares of its position; [T, C] each.

    Each position has its own scale: the first token's hidden state is often hundreds of times larger than the others'.
    """
    scale = np.sqrt(np.mean(np.square(truth, dtype=np.float64), axis=1))
    distance = np.abs(candidate.astype(np.float64) - truth).max(axis=1)
    return float((distance / np.maximum(scale, np.finfo(np.float32).tiny)).max())


def _layer_names(model: onnx.ModelProto, count: int) -> list[str | None]:
    listed = next(
        (entry.value for entry in (*model.graph.metadata_props, *model.metadata_props) if entry.key == LAYERS_KEY), "[]"
    )
    names = json.loads(listed)
    if len(names) != count:
        return []  # which name belongs to which layer cannot be told
    produced = {name for node in model.graph.node for name in node.output}
    return [name if name in produced else None for name in names]


def _graph_states(
    open_graph: Callable[[onnx.ModelProto], Any],
    model: onnx.ModelProto,
    signature: Signature,
    token_ids: npt.NDArray[np.int64],
    names: list[str],
) -> dict[str, Hidden]:
    import onnx

    present = {output.name for output in model.graph.output}
    model.graph.output.extend(
        onnx.ValueInfoProto(name=name)
        for name in names
        if name not in present  # the runtime knows its type and shape
    )
    session = open_graph(model)
    input_names = {entry.name for entry in session.get_inputs()}
    feeds = {name: value for name, value in _first_call(signature, token_ids).items() if name in input_names}
    return {name: value[0].astype(np.float32) for name, value in zip(names, session.run(names, feeds), strict=True)}


def _open_whole(model: onnx.ModelProto, *, folder: Path) -> Any:
    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    ort = import_onnxruntime()

    options = ort.SessionOptions()
    options.log_severity_level = 3
    if (folder / WEIGHTS).exists():
        # A graph given as bytes has no folder of its own to look for its weights in.
        options.add_session_config_entry("session.model_external_initializers_file_folder_path", str(folder))
    return ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


def _first_call(signature: Signature, token_ids: npt.NDArray[np.int64]) -> dict[str, npt.NDArray[Any]]:
    """Inputs of a prompt with nothing before it: one row, an empty state with room for exactly the prompt."""
    length = len(token_ids)
    feeds: dict[str, npt.NDArray[Any]] = {
        INPUT_IDS: token_ids[None],
        ATTENTION_MASK: np.ones((1, length), dtype=np.int64),
        PAST_LENGTH: np.zeros(1, dtype=np.int64),
        TOKEN_TYPE_IDS: np.zeros((1, length), dtype=np.int64),
        LOGITS_POSITIONS: np.array([[-1]], dtype=np.int64),
    }
    for spec in signature.state:
        shape = [dim if isinstance(dim, int) else length if dim == CAPACITY else 1 for dim in spec.dims]
        feeds[spec.past] = np.zeros(shape, dtype=np.dtype(spec.dtype))
    return feeds


def _source_states(
    reference: LayerReference, layers: torch.nn.ModuleList, token_ids: npt.NDArray[np.int64]
) -> list[Hidden]:
    seen: list[Hidden] = []

    def keep(module: torch.nn.Module, inputs: Any, output: Any) -> None:
        hidden = output[0] if isinstance(output, tuple) else output
        seen.append(hidden[0].float().cpu().numpy())

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        reference.logits(token_ids, slice(len(token_ids) - 1, len(token_ids)))
    finally:
        for hook in hooks:
            hook.remove()
    return seen
