"""A model that reads images or recordings beside texts as a worker.

Images are files of pixels, uint8 [H, W, 3]; recordings of samples, float32 [samples] at the model's rate.
"""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.benchmarks.peers.worker import Generation, UnsupportedError
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.text_run import TextRun
from jisu.runtimes.shown.image_reader import ImageReader, WithImages
from jisu.runtimes.shown.recording_reader import RecordingReader

if TYPE_CHECKING:
    from jisu.runtimes import Engine


def showing(engine: Engine) -> dict[str, Any]:
    """What a worker answers with one opened model, beside what it answers as one of texts alone."""
    reader = engine.generator.beside
    assert reader is not None, "a model that is shown something has a reader of it"

    def describe(prompt: list[int], files: list[str], new_tokens: int) -> Generation:
        arrays = [np.load(file) for file in files]
        sound = _sound_seconds(reader, arrays)
        started = time.perf_counter()
        made = reader.expanded(prompt, arrays)
        encoded = time.perf_counter() - started
        options = SamplingOptions(max_new_tokens=new_tokens, ignore_eos=True)
        run = TextRun(WithImages(reader.backend, [made]), [made.token_ids], options=options, codec=None, eos=())
        for _ in run:
            pass
        first, *others = run.step_seconds
        return Generation(
            step_seconds=[encoded + first, *others],
            tokens=[list(run.token_ids(0))],
            encode_seconds=encoded,
            sound_seconds=sound,
        )

    def write_logits(tokens: list[int], file: str, source: Any) -> None:
        """Logits of tokens behind what is ``shown`` by ``source``, which has the ``text`` with the marks of it, too."""
        np.save(file, logits_behind(reader, source["text"], source["shown"], tokens))

    return {"describe": describe, "write_logits": write_logits}


def _sound_seconds(reader: ImageReader | RecordingReader, arrays: Sequence[Any]) -> list[float] | None:
    """How long each of the recordings lasts; None of images. Raises UnsupportedError for more than the model takes."""
    if not isinstance(reader, RecordingReader):
        return None
    most = reader.settings.most
    if most is not None and len(arrays) > most:
        raise UnsupportedError(f"the model takes {most} recording{'s' if most > 1 else ''} in one prompt")
    return [len(samples) / reader.audio.sampling_rate for samples in arrays]


def logits_behind(reader: ImageReader | RecordingReader, text: str, shown: Sequence[str], tokens: Sequence[int]) -> Any:
    """Logits of tokens that follow a prompt with these files, float32 [T, V]."""
    made = reader.prompt(text, [np.load(file) for file in shown], chat=False)
    ids = np.array([[*made.token_ids, *tokens]], np.int64)
    backend: Any = WithImages(reader.backend, [made])
    state = backend.new_state(1, ids.shape[1])
    return backend.forward(ids, state, logits="all")[0, -len(tokens) :]


def source_logits(reference: Any, source: Mapping[str, Any], tokens: Sequence[int]) -> Any:
    """The same of the source by an `exporter.gate.shown_reference.ShownReference`, prepared by transformers."""
    arrays = [np.load(file) for file in source["shown"]]
    return reference.logits(source["text"], arrays, tokens)[-len(tokens) :]
