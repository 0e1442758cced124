"""Who is the truth for a comparison: the source of the artifacts, or an fp32 artifact where the source is gone."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any

from jisu.benchmarks.compare.artifact_tokenizer import artifact_tokenizer
from jisu.benchmarks.compare.contestants import source_key
from jisu.benchmarks.compare.inputs import Input
from jisu.benchmarks.compare.journal import Journal
from jisu.benchmarks.compare.one_pass_quality import measure_one_pass_quality, one_pass_texts
from jisu.benchmarks.compare.rounds import Outcome, Processes, Say
from jisu.benchmarks.compare.shown_sets import shown_sets
from jisu.benchmarks.compare.speech_quality import measure_speech_quality
from jisu.benchmarks.compare.timed_process import ContestantError, TimedProcess
from jisu.benchmarks.compare.token_quality import ReferenceFailedError, measure_quality, token_sets
from jisu.exporter.contract.artifact import AUDIO_TEXT, IMAGE_TEXT, SPEECH, Artifact
from jisu.exporter.contract.errors import InputError

_SOURCE = "source"


def judge_contestants(
    model: Artifact,
    outcomes: Mapping[str, Outcome],
    processes: Processes,
    *,
    source: str | None,
    inputs: Sequence[Input] = (),
    threads: int,
    time_limit: float,
    journal: Journal,
    say: Say,
) -> dict[str, Any]:
    """Measure the quality that is missing; returns what it was measured against, or why it was not.

    Args:
        model: an artifact whose tokenizer and source count for all.
        source: the checkpoint, where the manifest does not tell it.
        inputs: recordings or images, of models that are given some.
    """
    problems: list[str] = []
    try:
        measure = _measurement(model, inputs)
    except (InputError, ImportError) as error:  # a tokenizer that is not the model's; the speeds are there all the same
        return {"name": None, "description": None, "problems": [str(error)]}
    for outcome in outcomes.values():
        if outcome.is_measured and not _same_source(outcome.contestant.artifact, model):
            reason = f"it was made from another source than {model.folder}"
            outcome.quality = {"sets": {}, "greedy": None, "reason": reason}
    requests = {
        name: process
        for name, process in processes.items()
        if outcomes[name].quality is None and _same_source(outcomes[name].contestant.artifact, model)
    }
    for name, command in _references(model, outcomes, source=source, threads=threads):
        say(f"loading the reference: {name}")
        try:
            with TimedProcess(command, time_limit=time_limit) as process:
                if requests:
                    measure(process, outcomes, requests, journal=journal, say=say)
                version = process.opened["version"]
                description = version if name == _SOURCE else f"{name}, {version}"
                return {"name": name, "description": description, "problems": problems}
        except (ContestantError, ReferenceFailedError) as error:
            problems.append(f"{name}: {error}")
            say(f"the reference {name} cannot be used: {error}")
    return {"name": None, "description": None, "problems": problems or ["no source and no fp32 artifact"]}


def _references(
    model: Artifact, outcomes: Mapping[str, Outcome], *, source: str | None, threads: int
) -> list[tuple[str, tuple[str, ...]]]:
    """What quality may be measured against, best first: the source, then an fp32 artifact among the contestants.

    For a source that was named nothing else is taken.
    """
    place = () if source is None else (source,)
    program = (sys.executable, "-m", "jisu.benchmarks.peers.run_source", str(model.folder), str(threads), *place)
    references = [(_SOURCE, program)]
    for outcome in outcomes.values() if source is None else ():
        item = outcome.contestant
        if item.facts.get("precision") == "fp32" and outcome.failure is None:
            references.append((item.name, item.command))
    return references


def _measurement(model: Artifact, inputs: Sequence[Input]) -> Callable[..., None]:
    """How the model's kind is judged, with the texts that the model can be judged on."""
    from jisu.exporter.gate.prompts import gate_prompts
    from jisu.exporter.gate.tokenizer import chat_renderer

    facts = model.manifest.model
    if model.manifest.reads_whole_texts:
        return partial(measure_one_pass_quality, model=model, texts=one_pass_texts(model))
    if model.manifest.model_kind == SPEECH:
        return partial(measure_speech_quality, recordings=inputs)
    limits = [limit for limit in (facts.max_positions, facts.max_source_positions) if limit is not None]
    render = chat_renderer(model.folder)
    prompts = gate_prompts(artifact_tokenizer(model.folder), facts.vocab_size, min(limits, default=None), render=render)
    if model.manifest.model_kind in (IMAGE_TEXT, AUDIO_TEXT):
        return partial(measure_quality, sets=shown_sets(prompts, model, inputs))
    sets = token_sets(prompts, start=facts.decoder_start, suppressed=facts.suppressed)
    return partial(measure_quality, sets=sets)


def _same_source(artifact: Artifact | None, model: Artifact) -> bool:
    return artifact is None or source_key(artifact) == source_key(model)
