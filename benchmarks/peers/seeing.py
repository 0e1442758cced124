"""A model that reads images as a worker: images are files of pixels, uint8 [H, W, 3]."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.benchmarks.peers.worker import Generation
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.text_run import TextRun
from jisu.runtimes.shown.image_reader import ImageReader, WithImages

if TYPE_CHECKING:
    from jisu.runtimes import Engine


def seeing(engine: Engine) -> dict[str, Any]:
    """What a worker answers with one opened model, beside what it answers as one of texts alone."""
    reader = engine.generator.beside
    assert isinstance(reader, ImageReader), "a model that reads images has a reader of them"

    def describe(prompt: list[int], images: list[str], new_tokens: int) -> Generation:
        pixels = [np.load(file) for file in images]
        started = time.perf_counter()
        made = reader.expanded(prompt, pixels)
        encoded = time.perf_counter() - started
        options = SamplingOptions(max_new_tokens=new_tokens, ignore_eos=True)
        run = TextRun(WithImages(reader.backend, [made]), [made.token_ids], options=options, codec=None, eos=())
        for _ in run:
            pass
        first, *others = run.step_seconds
        return Generation(
            step_seconds=[encoded + first, *others], tokens=[list(run.token_ids(0))], encode_seconds=encoded
        )

    def write_logits(tokens: list[int], file: str, source: Any) -> None:
        """Logits of tokens behind images; ``source`` has the ``text`` with their marks, and the ``images``."""
        np.save(file, logits_behind(reader, source["text"], source["images"], tokens))

    return {"describe": describe, "write_logits": write_logits}


def logits_behind(reader: ImageReader, text: str, images: Sequence[str], tokens: Sequence[int]) -> Any:
    """Logits of tokens that follow a prompt with images, float32 [T, V]."""
    made = reader.prompt(text, [np.load(file) for file in images], chat=False)
    ids = np.array([[*made.token_ids, *tokens]], np.int64)
    backend: Any = WithImages(reader.backend, [made])
    state = backend.new_state(1, ids.shape[1])
    return backend.forward(ids, state, logits="all")[0, -len(tokens) :]


def source_logits(reference: Any, source: Mapping[str, Any], tokens: Sequence[int]) -> Any:
    """The same of the source, whose images transformers prepares, see `exporter.gate.images.image_reference`."""
    pictures = [np.load(file) for file in source["images"]]
    return reference.logits(source["text"], pictures, tokens)[-len(tokens) :]
