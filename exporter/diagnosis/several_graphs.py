"""The graphs of artifacts that have several: what each is given, and what its source makes of it.

A graph is given what the source gives there, so that none is charged with the errors of another; a decoder is given
what the artifact's own encoder writes for it.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import HEARING, VISION, Artifact
from jisu.exporter.contract.signature import AUDIO_FEATURES, IMAGE_FEATURES, LOGITS
from jisu.exporter.diagnosis.finding import Diagnosis, Limits
from jisu.exporter.diagnosis.graph_part import ComparedPart, GraphPart, compare_part
from jisu.exporter.diagnosis.graph_run import GraphRun, calls
from jisu.exporter.gate.reference import stock_attention

if TYPE_CHECKING:
    from jisu.exporter.sources.source import Source

_SECONDS, _PITCH = 2.3, 120.0  # of a voice that is heard


def diagnose_speech(
    artifact: Artifact, source: Source, token_ids: npt.NDArray[np.int64], limits: Limits, *, prompt: int, folder: Path
) -> Diagnosis:
    """Of a model that hears: its encoder and its decoder, or the one graph that labels frames.

    Args:
        token_ids: int64 [T]; what is said, of which the first ``prompt`` tokens in one call.
    """
    from jisu.exporter.gate.recordings import voice

    audio = source.audio
    assert audio is not None, "a source that hears says how"
    rate, window = audio.settings.sampling_rate, audio.settings.window
    seconds = _SECONDS if window is None else min(_SECONDS, window / rate)
    samples = voice(rate, seconds, seed=1, pitch=_PITCH)
    features = audio.features(samples)
    feeds = {audio.settings.input_name: features}
    if not artifact.manifest.signature.encoded:
        part = GraphPart(
            name="frames",
            path=artifact.cpu_graph,
            module=source.module,
            run_source=lambda: {LOGITS: _run(source.module, **feeds).logits},
            signature=artifact.manifest.signature,
            inputs=feeds,
        )
        return joined([compare_part(part, limits, steps=1, folder=folder)], ())
    start = source.model.decoder_start
    assert start is not None, "a decoder says what its answers begin with"
    said = np.concatenate([[start], token_ids[1:]]).astype(np.int64)

    def answered() -> Any:
        return _run(source.module, **feeds, decoder_input_ids=said[None])

    encoder = GraphPart(
        name="encoder",
        path=artifact.cpu_encoder,
        module=source.module,
        run_source=lambda: answered() and {},
        signature=artifact.manifest.signature,
        inputs=feeds,
    )
    compared = [compare_part(encoder, limits, steps=1, folder=folder)]
    if compared[0].finding is not None:
        return joined(compared, ("The decoder was not looked at: what the encoder writes for it is wrong.",))
    steps = len(said) - prompt
    decoder = GraphPart(
        name="decoder",
        path=artifact.cpu_graph,
        module=source.module,
        run_source=lambda: {LOGITS: answered().logits},
        signature=artifact.manifest.signature,
        inputs=_written(artifact, feeds),
        token_ids=said,
        calls=calls(prompt=prompt, steps=steps, one_token=artifact.manifest.signature.takes_one_token),
    )
    compared.append(compare_part(decoder, limits, steps=1 + steps, folder=folder))
    return joined(compared, ())


def compare_vision(artifact: Artifact, source: Source, limits: Limits, *, folder: Path) -> ComparedPart:
    """Of a model that reads images: the graph that makes features of one."""
    from jisu.exporter.gate.images import image_edge
    from jisu.exporter.gate.open_candidate import open_candidate, open_image_reader
    from jisu.exporter.sources.image_ways import made_images
    from jisu.exporter.tracing.trace_images import source_features

    vision = source.vision
    assert vision is not None, "a source that reads images says how"
    image = made_images(image_edge(vision), seed=2)[0]
    backend = open_candidate(artifact)
    try:
        prepared = open_image_reader(artifact, backend).prepared(image, name="image")
    finally:
        backend.close()

    def run_source() -> dict[str, Any]:
        features = source_features(vision, image)
        # Rows that are put into another order, or left out, for the prompt are compared module by module only.
        return {IMAGE_FEATURES: features} if prepared.arrange is None else {}

    part = GraphPart(
        name="vision",
        path=artifact.folder / VISION,
        module=vision.model,
        run_source=run_source,
        signature=artifact.manifest.signature,
        inputs=prepared.inputs,
    )
    return compare_part(part, limits, steps=1, folder=folder)


def compare_hearing(artifact: Artifact, source: Source, limits: Limits, *, folder: Path) -> ComparedPart:
    """Of a model that reads recordings beside texts: the graph that makes rows of one's features."""
    from jisu.exporter.gate.recordings import voice

    hearing = source.hearing
    assert hearing is not None, "a source that reads recordings says how"
    rate, window = hearing.audio.settings.sampling_rate, hearing.audio.settings.window
    seconds = _SECONDS if window is None else min(_SECONDS, window / rate)
    samples = voice(rate, seconds, seed=1, pitch=_PITCH)
    part = GraphPart(
        name="hearing",
        path=artifact.folder / HEARING,
        module=hearing.model,
        run_source=lambda: {AUDIO_FEATURES: hearing.rows(samples)},
        signature=artifact.manifest.signature,
        inputs=hearing.arrays(samples),
    )
    return compare_part(part, limits, steps=1, folder=folder)


def _run(module: Any, **inputs: Any) -> Any:
    """The source's own forward over arrays, with its logits as an array."""
    import torch

    with stock_attention(module):
        more = {"use_cache": False} if "decoder_input_ids" in inputs else {}
        output = module(**{name: torch.from_numpy(value) for name, value in inputs.items()}, **more)
        output.logits = output.logits.float().numpy()
    return output


def _written(artifact: Artifact, feeds: dict[str, Any]) -> dict[str, npt.NDArray[Any]]:
    """What the artifact's encoder writes for its decoder."""
    from jisu.exporter.graph.read_graph import read_graph

    names = [spec.past for spec in artifact.manifest.signature.encoded]
    run = GraphRun(read_graph(artifact.cpu_encoder), artifact.folder, artifact.manifest.signature)
    return run.once(feeds, names)


def joined(parts: list[ComparedPart], notes: tuple[str, ...]) -> Diagnosis:
    """The parts one below the other, and the first finding of all."""
    steps = max(part.errors.shape[1] for part in parts)
    rows = [np.pad(part.errors, ((0, 0), (0, steps - part.errors.shape[1])), constant_values=np.nan) for part in parts]
    finding = next((part.finding for part in parts if part.finding is not None), None)
    pieces = tuple(piece for part in parts for piece in part.pieces)
    return Diagnosis(pieces=pieces, errors=np.concatenate(rows), finding=finding, notes=notes)
