"""What an artifact and a checkpoint answer, asked the same few things; one answer for each kind of model."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.benchmarks.robustness.questions import DIGITS, NEW_TOKENS, PROMPTS, picture, recording, rounded
from jisu.benchmarks.robustness.source_answers import source_answers

if TYPE_CHECKING:
    from jisu.runtimes.engine import Engine


def artifact_answers(folder: Path, *, verify_hashes: bool = True) -> list[Any]:
    """What an artifact answers, the most likely tokens; opened as users open it."""
    from jisu.exporter.contract.artifact import read_artifact
    from jisu.runtimes import load

    kind = read_artifact(folder).manifest.model_kind
    with load(folder, threads=1, verify_hashes=verify_hashes) as engine:
        return _ANSWERS.get(kind, _generated)(engine)


def _generated(engine: Engine, prompts: tuple[str, ...] = PROMPTS) -> list[Any]:
    results = engine.generate(list(prompts), max_new_tokens=NEW_TOKENS, temperature=0.0)
    return [[*map(int, result.token_ids), result.text] for result in results]


def _classified(engine: Engine) -> list[Any]:
    return [[one.label, round(one.probability, DIGITS)] for one in engine.classify(list(PROMPTS))]


def _embedded(engine: Engine) -> list[Any]:
    vectors = engine.embed(list(PROMPTS)), engine.embed(list(PROMPTS), prompt="query")
    return [*map(rounded, vectors), dict(engine.prompts)]


def _written_down(engine: Engine) -> list[Any]:
    rate = engine.transcriber.settings.sampling_rate
    transcript = engine.transcribe(recording(rate), sampling_rate=rate)
    return [transcript.text, transcript.language]


def _seen(engine: Engine) -> list[Any]:
    from PIL import Image

    image = Image.fromarray(picture())
    result = engine.generate("What is in it?", images=[image], max_new_tokens=NEW_TOKENS, temperature=0.0)
    return [[*map(int, result.token_ids), result.text], *_generated(engine, PROMPTS[:1])]


_ANSWERS: Mapping[str, Callable[[Engine], list[Any]]] = {
    "text-classification": _classified,
    "text2text-generation": lambda engine: _generated(engine, PROMPTS[:1]),
    "feature-extraction": _embedded,
    "automatic-speech-recognition": _written_down,
    "image-text-to-text": _seen,
}


def checkpoint_answers(path: Path, **options: Any) -> dict[str, Any]:
    """``answers`` of a checkpoint as an export reads it, and the ``notes`` that a user is told."""
    from jisu.exporter.sources import load_source

    source = load_source(path, **options)
    return {"answers": source_answers(source), "notes": [*source.notes, *source.account.notes()]}


def published_answers(path: Path, out: Path, **options: Any) -> list[Any]:
    """Export a checkpoint and ask what was published."""
    from jisu.exporter import export

    return artifact_answers(export(path, out, **options).folder)
