"""Begins to answer prompts as the options say: token by token, or with beams."""

from __future__ import annotations

from collections.abc import Sequence

from jisu.exporter.contract.artifact import ModelFacts
from jisu.exporter.contract.backend import Backend
from jisu.runtimes.generation.beam_run import BeamRun
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.result import Result
from jisu.runtimes.generation.text import TextCodec
from jisu.runtimes.generation.text_run import TextRun
from jisu.runtimes.generation.token_loop import Turn

Run = TextRun | BeamRun


def begin_run(
    backend: Backend,
    prompts: Sequence[Sequence[int]],
    *,
    options: SamplingOptions,
    codec: TextCodec | None,
    facts: ModelFacts,
    cut: bool = False,
    seeds: Sequence[int | None] | None = None,
    turns: Turn | None = None,
) -> Run:
    """Answers to all prompts, which arrive as the run is iterated.

    Args:
        prompts: token ids; of a model that turns one text into another, the texts that its encoder reads.
        options: which leave nothing open, see `runtimes.generation.model_defaults.complete_options`.
        codec: of the tokenizer; None gives ids alone.
        cut: shorten an answer that there is no room for, instead of refusing it.
        seeds: of each prompt; None makes them from the options' seed. Beams draw nothing.
        turns: entered for each call of the backend, where several threads share it.
    """
    begun, sources = prompts, None
    if facts.decoder_start is not None:
        begun, sources = [[facts.decoder_start] for _ in prompts], prompts
    if options.searches:
        return BeamRun(
            backend, begun, options=options, codec=codec, eos=facts.eos, sources=sources, cut=cut, turns=turns
        )
    return TextRun(
        backend, begun, options=options, codec=codec, eos=facts.eos, sources=sources, cut=cut, seeds=seeds, turns=turns
    )


def all_results(run: Run) -> list[Result]:
    """Run to the end: the answer to each prompt."""
    for _ in run:
        pass
    return run.results()
