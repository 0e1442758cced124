"""An artifact of ours on one of its backends: the generate loop with sampling and stopping, and no tokenizer.

run_jisu FOLDER BACKEND THREADS [SOURCE]
"""

from __future__ import annotations

import sys
import time
from importlib import metadata
from typing import TYPE_CHECKING, Any

from jisu.benchmarks.peers.worker import Generation, Opened, serve

if TYPE_CHECKING:
    from jisu.runtimes import Engine


def open_engine() -> Opened:
    from jisu.benchmarks.peers.hearing import hearing
    from jisu.benchmarks.peers.shown import showing
    from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGE_TEXT, SPEECH, TEXT_TO_TEXT
    from jisu.runtimes import load

    folder, backend_name, threads, *source = sys.argv[1:]
    engine = load(folder, backend_name, threads=int(threads), source=source[0] if source else None)
    version = f"jisu {metadata.version('jisu')}"
    settings = f"{backend_name}, {threads} threads, {_library(backend_name)}"
    manifest = engine.artifact.manifest
    opened = reader if manifest.reads_whole_texts else generator
    if manifest.model_kind == SPEECH:
        return Opened(version=version, settings=settings, **hearing(engine.transcriber, manifest.model))
    if manifest.model_kind in (IMAGE_TEXT, AUDIO_TEXT):
        return Opened(version=version, settings=settings, **{**generator(engine), **showing(engine)})
    if manifest.model_kind == TEXT_TO_TEXT:
        opened = _text_to_text
    return Opened(version=version, settings=settings, **opened(engine))


def generator(engine: Engine) -> dict[str, Any]:
    import numpy as np

    from jisu.runtimes.generation.options import SamplingOptions
    from jisu.runtimes.generation.text_run import TextRun

    backend = engine.backend

    def generate(prompts: list[list[int]], new_tokens: int) -> Generation:
        # No id ends the answer, so that every trial makes as many tokens. Greedy: a NaN among the logits is an error.
        options = SamplingOptions(max_new_tokens=new_tokens, ignore_eos=True)
        run = TextRun(backend, prompts, options=options, codec=None, eos=())
        for _ in run:
            pass
        tokens = [list(run.token_ids(row)) for row in range(len(prompts))]
        return Generation(step_seconds=list(run.step_seconds), tokens=tokens)

    def write_logits(tokens: list[int], file: str, source: list[int] | None) -> None:
        ids = np.array([tokens], np.int64)
        np.save(file, backend.forward(ids, backend.new_state(1, len(tokens)), logits="all")[0])

    return {"generate": generate, "write_logits": write_logits}


def _text_to_text(engine: Engine) -> dict[str, Any]:
    import numpy as np

    from jisu.exporter.contract.backend import EncoderBackend
    from jisu.runtimes.generation.options import SamplingOptions
    from jisu.runtimes.generation.text_run import TextRun

    backend, facts = engine.backend, engine.artifact.manifest.model
    assert isinstance(backend, EncoderBackend) and facts.decoder_start is not None
    start = facts.decoder_start
    # What the model never says; what it is forced to say at an answer's ends would only hide what it says by itself.
    never = dict.fromkeys(facts.suppressed, -float("inf"))

    def generate(sources: list[list[int]], new_tokens: int) -> Generation:
        options = SamplingOptions(max_new_tokens=new_tokens, ignore_eos=True, logit_bias=never)
        run = TextRun(backend, [[start] for _ in sources], options=options, codec=None, eos=(), sources=sources)
        for _ in run:
            pass
        first, *others = run.step_seconds
        tokens = [list(run.token_ids(row)) for row in range(len(sources))]
        return Generation(
            step_seconds=[run.encode_seconds + first, *others], tokens=tokens, encode_seconds=run.encode_seconds
        )

    def write_logits(tokens: list[int], file: str, source: list[int] | None) -> None:
        assert source is not None, "a text is said about another"
        state = backend.encode([source], capacity=len(tokens))
        np.save(file, backend.forward(np.array([tokens], np.int64), state, logits="all")[0])

    return {"generate": generate, "write_logits": write_logits}


def reader(engine: Engine) -> dict[str, Any]:
    import numpy as np

    backend = engine.one_pass

    def read(rows: list[list[int]], calls: int) -> list[float]:
        seconds = []
        for _ in range(calls):
            started = time.perf_counter()
            numbers = backend.outputs(rows)
            seconds.append(time.perf_counter() - started)
            if len(numbers) != len(rows) or numbers.shape[-1] != backend.columns or not np.isfinite(numbers).all():
                raise ValueError(
                    f"numbers of shape {numbers.shape} that are not all finite, or not of {len(rows)} texts"
                )
        return seconds

    def write_numbers(texts: list[list[int]], types: list[list[int]] | None, file: str) -> None:
        np.save(file, backend.outputs(texts, types))

    return {"read": read, "write_numbers": write_numbers}


def _library(backend_name: str) -> str:
    """The version of what computes."""
    name = "torch" if backend_name == "torch" else "onnxruntime"
    return f"{name} {metadata.version(name)}"


if __name__ == "__main__":
    serve(open_engine)
