"""Who is the truth for a comparison: the source of the artifacts, or an fp32 artifact where the source is gone."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from benchmarks.candidates import source_key
from benchmarks.journal import Journal
from benchmarks.rounds import Outcome, Processes, Say
from benchmarks.timed_process import CandidateError, TimedProcess
from benchmarks.token_quality import ReferenceFailedError, TokenSets, measure_quality, token_sets
from exporter.artifact import Artifact
from exporter.errors import InputError


def judge_candidates(
    model: Artifact,
    outcomes: Mapping[str, Outcome],
    processes: Processes,
    *,
    source: str | None,
    threads: int,
    time_limit: float,
    journal: Journal,
    say: Say,
) -> dict[str, Any]:
    """Measure the quality that is missing; returns what it was measured against, or why it was not.

    Args:
        model: an artifact whose tokenizer and source count for all.
        source: the checkpoint, where the manifest does not tell it.
    """
    problems: list[str] = []
    try:
        sets = _token_sets(model)
    except InputError as error:  # a tokenizer that is not the model's; the speeds are there all the same
        return {"name": None, "description": None, "problems": [str(error)]}
    for outcome in outcomes.values():
        if outcome.is_measured and not _same_source(outcome.candidate.artifact, model):
            reason = f"it was made from another source than {model.folder}"
            outcome.quality = {"sets": {}, "greedy": None, "reason": reason}
    wanted = {
        name: process
        for name, process in processes.items()
        if outcomes[name].quality is None and _same_source(outcomes[name].candidate.artifact, model)
    }
    for name, command in _references(model, outcomes, source=source, threads=threads):
        say(f"loading the reference: {name}")
        try:
            with TimedProcess(command, time_limit=time_limit) as process:
                if wanted:
                    measure_quality(process, outcomes, wanted, sets, journal=journal, say=say)
                return {"name": name, "description": process.opened["version"], "problems": problems}
        except (CandidateError, ReferenceFailedError) as error:
            problems.append(f"{name}: {error}")
            say(f"the reference {name} cannot be used: {error}")
    return {"name": None, "description": None, "problems": problems or ["no source and no fp32 artifact"]}


def _references(
    model: Artifact, outcomes: Mapping[str, Outcome], *, source: str | None, threads: int
) -> list[tuple[str, tuple[str, ...]]]:
    """What quality may be measured against, best first: the source, then an fp32 artifact among the candidates."""
    place = () if source is None else (source,)
    program = (sys.executable, "-m", "benchmarks.peers.run_source", str(model.folder), str(threads), *place)
    found = [("source", program)]
    for outcome in outcomes.values():
        item = outcome.candidate
        if item.facts.get("precision") == "fp32" and outcome.failure is None:
            found.append((item.name, item.command))
    return found


def _token_sets(model: Artifact) -> TokenSets:
    from exporter.gate.prompts import gate_prompts
    from runtimes.text import open_codec

    codec = open_codec(model.folder)

    class Encoder:
        def encode(self, text: str) -> list[int]:
            assert codec is not None
            return codec.encode(text, special_tokens=True)

    facts = model.manifest.model
    prompts = gate_prompts(Encoder() if codec is not None else None, facts.vocab_size, facts.max_positions)
    return token_sets(prompts, has_tokenizer=codec is not None)


def _same_source(artifact: Artifact | None, model: Artifact) -> bool:
    return artifact is None or source_key(artifact) == source_key(model)
