"""What a diagnosis looks at: a graph cut into pieces, its source, and the text that both are given."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import ONE_PASS_KINDS, Artifact
from jisu.exporter.contract.signature import LOGITS, SENTENCE_EMBEDDING
from jisu.exporter.diagnosis.cut_graph import Seam, cut_graph
from jisu.exporter.diagnosis.graph_run import Call, GraphRun, calls
from jisu.exporter.diagnosis.source_states import SourceStates, observe
from jisu.exporter.graph.localize import hidden_error
from jisu.exporter.precision.logit_errors import logit_errors

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.exporter.graph.localize import LayerReference
    from jisu.exporter.sources.source import Source


# What a graph gives in the end, by the kind of its model.
ANSWERS = (LOGITS, SENTENCE_EMBEDDING)


@dataclass(frozen=True, kw_only=True)
class Piece:
    """A stretch between two seams that can be seen; ``layer`` is the one whose weights it has."""

    name: str
    layer: int | None
    output: str


@dataclass(frozen=True, kw_only=True)
class Subject:
    """All that is looked at: the graph in its pieces, the source, and the text."""

    artifact: Artifact
    model: ir.Model
    seams: tuple[Seam, ...]
    pieces: tuple[Piece, ...]
    reference: LayerReference
    layers: Any
    path: str | None
    truth: SourceStates
    token_ids: npt.NDArray[np.int64]
    calls: list[Call]

    @property
    def run(self) -> GraphRun:
        """The graph, ready to be run."""
        return GraphRun(self.model, self.artifact.folder, self.artifact.manifest.signature)

    @property
    def fed(self) -> dict[str, npt.NDArray[np.float32]]:
        return {seam.fed: self.truth.seams[seam.place] for seam in self.seams}  # type: ignore[misc]

    def of_seam(self, output: str) -> npt.NDArray[np.float32]:
        return next(self.fed[seam.fed] for seam in self.seams if seam.output == output)

    def error(self, name: str, actual: npt.NDArray[Any], call: Call) -> float:
        """How far a seam or the logits are from the source's, in sd."""
        if name not in ANSWERS:
            return hidden_error(self.of_seam(name)[call.start : call.stop], actual[0])
        if self.artifact.manifest.reads_whole_texts:
            return _answer_error(self.truth.logits, actual.astype(np.float32))
        truth = self.truth.logits[call.start : call.stop][-actual.shape[1] :]
        return float(logit_errors(truth, actual[0].astype(np.float32)).max())


def _answer_error(truth: npt.NDArray[np.float32], actual: npt.NDArray[np.float32]) -> float:
    """Of what a model says of a whole text, in sd of all its numbers: a row of them may have one number, or two."""
    whole, other = truth.astype(np.float64).reshape(-1), actual.reshape(-1)
    spread = float(whole.std()) if len(whole) > 2 else 0.0
    scale = max(spread, 1e-3 * float(np.abs(whole).max())) if len(whole) > 2 else float(np.abs(whole).max())
    distance = float(np.abs(whole - other).max())
    return distance / max(scale, float(np.finfo(np.float32).tiny))


def make_subject(artifact: Artifact, source: Source, *, prompt: int, steps: int) -> tuple[Subject, tuple[str, ...]]:
    """Open graph and source, and run the source; also notes on what cannot be seen."""

    from jisu.exporter.graph.read_graph import read_graph
    from jisu.exporter.sources.layers import find_layers

    whole = artifact.manifest.reads_whole_texts
    signature = artifact.manifest.signature
    stack = find_layers(source.module)
    layers: Any = () if stack is None else source.module.get_submodule(stack.path)
    reference = _reference(source)
    tokens_needed = prompt + (0 if whole or not signature.state else steps)
    token_ids = text_of(source, tokens_needed)
    prompt = min(prompt, len(token_ids))
    truth = observe(reference, list(layers), token_ids)
    model = read_graph(artifact.cpu_graph)
    visible = {place for place, seam in enumerate(truth.seams) if seam is not None}
    seams = cut_graph(model, layers=len(layers), path=None if stack is None else stack.path)
    hidden = [seam for seam in seams if seam.place not in visible]
    assert not hidden or stack is not None
    if hidden:  # what the source does not show cannot be fed
        model = read_graph(artifact.cpu_graph)
        seams = ()
    notes = []
    if len(seams) < len(layers) + 1:
        notes.append(f"The graph and the source show {len(seams)} of {len(layers) + 1} seams between their layers.")
    if len(token_ids) < tokens_needed:
        decoded = len(token_ids) - prompt
        notes.append(f"The text ends after {len(token_ids)} tokens: a prompt of {prompt}, and {decoded} decoded.")
    subject = Subject(
        artifact=artifact,
        model=model,
        seams=seams,
        pieces=_pieces(seams, SENTENCE_EMBEDDING if source.model.embedding is not None else LOGITS),
        reference=reference,
        layers=layers,
        path=None if stack is None else stack.path,
        truth=truth,
        token_ids=token_ids,
        calls=calls(prompt=prompt, steps=len(token_ids) - prompt, one_token=signature.takes_one_token),
    )
    return subject, tuple(notes)


def _reference(source: Source) -> Any:
    from jisu.exporter.gate.one_pass_reference import one_pass_reference
    from jisu.exporter.gate.reference import reference_of

    if source.model_kind in ONE_PASS_KINDS:
        return one_pass_reference(source)
    return reference_of(source)


def text_of(source: Source, tokens: int) -> npt.NDArray[np.int64]:
    """The first tokens of the text that the gate begins with, as many of them as the model holds."""
    from jisu.exporter.gate import gate_prompts
    from jisu.exporter.sources.quiet import quiet_transformers

    with quiet_transformers():  # texts that are encoded whole and cut afterwards are longer than the model reads
        return gate_prompts(source.tokenizer, source.model.vocab_size, source.model.max_positions).sequence[:tokens]


def _pieces(seams: tuple[Seam, ...], answer: str) -> tuple[Piece, ...]:
    pieces = []
    last = -1
    for seam in seams:
        if seam.place == 0:
            pieces.append(Piece(name="embedding", layer=None, output=seam.output))
        else:
            inside = range(max(last, 0), seam.place)
            name = f"layer {inside[0]}" if len(inside) == 1 else f"layers {inside[0]} to {inside[-1]}"
            name = f"embedding and {name}" if last < 0 else name
            pieces.append(Piece(name=name, layer=inside[-1], output=seam.output))
        last = seam.place
    return (*pieces, Piece(name="output" if pieces else "the whole graph", layer=None, output=answer))
