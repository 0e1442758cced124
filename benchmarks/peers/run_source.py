"""The source of an artifact as the truth that others are measured by: whole texts, no cache, no speed.

run_source FOLDER THREADS [SOURCE]
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

from jisu.benchmarks.peers.worker import Opened, UnsupportedError, serve
from jisu.exporter.contract.artifact import PER_TOKEN_KINDS, SPEECH, Artifact

if TYPE_CHECKING:
    from jisu.exporter.gate.one_pass_reference import OnePassReference
    from jisu.exporter.sources.source import Source


def open_engine() -> Opened:
    import numpy as np
    import torch

    from jisu.exporter.contract.artifact import read_artifact
    from jisu.exporter.gate.conditioned import ConditionedReference
    from jisu.exporter.gate.one_pass_reference import one_pass_reference
    from jisu.exporter.gate.reference import TorchReference, reference_of
    from jisu.exporter.sources.recorded_source import load_recorded_source

    folder, threads, *place = sys.argv[1:]
    torch.set_num_threads(int(threads))
    artifact = read_artifact(folder)
    facts = artifact.manifest.model
    loaded = load_recorded_source(artifact, place[0] if place else None, same_files=True)
    if artifact.manifest.reads_whole_texts:
        return _reader(one_pass_reference(loaded))
    if artifact.manifest.model_kind == SPEECH:
        return _hearer(artifact, loaded)
    if loaded.vision is not None or loaded.hearing is not None:
        return _shown(loaded)
    reference = reference_of(loaded)

    def write_logits(tokens: list[int], file: str, source: list[int] | None) -> None:
        ids = np.array(tokens, np.int64)
        if source is None:
            np.save(file, reference.logits(ids))
            return
        assert isinstance(reference, TorchReference) and facts.decoder_start is not None
        about = ConditionedReference(reference, [np.array(source, np.int64)], start=facts.decoder_start)
        np.save(file, about.logits(np.array([0, *tokens[1:]], np.int64)))  # of the only source

    return Opened(version=reference.description, write_logits=write_logits)


def _shown(loaded: Source) -> Opened:
    """A source that reads images or recordings beside texts, as transformers prepares them."""
    import numpy as np
    import torch

    from jisu.benchmarks.peers.shown import source_logits
    from jisu.exporter.gate.hearing import recording_reference
    from jisu.exporter.gate.images import image_reference

    if loaded.hearing is not None:
        reference, model = recording_reference(loaded.hearing), loaded.hearing.model
    else:
        assert loaded.vision is not None, "the caller knows that it is shown something"
        reference, model = image_reference(loaded.vision), loaded.vision.model

    def write_logits(tokens: list[int], file: str, source: Any) -> None:
        np.save(file, source_logits(reference, source, tokens))

    version = f"{type(model).__name__} in torch {torch.__version__}, no cache"
    return Opened(version=version, write_logits=write_logits)


def _hearer(artifact: Artifact, loaded: Source) -> Opened:
    """A source that hears, with its own feature extractor."""
    import torch

    from jisu.benchmarks.peers.hearing import hearing
    from jisu.benchmarks.peers.source_speech import SourceFrames, SourceTranscriber
    from jisu.runtimes.generation.text import open_codec
    from jisu.runtimes.speech.transcriber import Transcriber

    says_tokens = artifact.manifest.model.decoder_start is not None
    backend = SourceTranscriber(loaded) if says_tokens else SourceFrames(loaded)
    transcriber = Transcriber(artifact, backend, open_codec(artifact.folder))
    version = f"{type(loaded.module).__name__} in torch {torch.__version__}, no cache"
    return Opened(version=version, **hearing(transcriber, artifact.manifest.model))


def _reader(reference: OnePassReference) -> Opened:
    """A source that reads whole texts, each by itself."""
    import numpy as np

    def write_numbers(texts: list[list[int]], types: list[list[int]] | None, file: str) -> None:
        if len(texts) != 1:
            raise UnsupportedError("the source is asked for one text at a time")
        more = None if types is None else np.array(types[0], np.int64)
        numbers = reference.logits(np.array(texts[0], np.int64), types=more)
        np.save(file, numbers[None] if reference.kind in PER_TOKEN_KINDS else numbers)

    return Opened(version=reference.description, write_numbers=write_numbers)


if __name__ == "__main__":
    serve(open_engine)
