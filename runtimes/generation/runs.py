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

Run = TextRun | BeamRun


def begin_run(
    backend: Backend,
    prompts: Sequence[Sequence[int]],
    *,
    options: SamplingOptions,
    codec: TextCodec | None,
    facts: ModelFacts,
    cut: bool = False,
) -> Run:
    """Answers to all prompts, which arrive as the run is iterated.

    Args:
        prompts: token ids; of a model that turns one text into another, the texts that its encoder reads.
        options: which leave nothing open, see `runtimes.generation.model_defaults.complete_options`.
        codec: of the tokenizer; None gives ids alone.
        cut: shorten an answer that there is no room for, instead of refusing it.
    """
    kind = BeamRun if options.searches else TextRun
    if facts.decoder_start is None:
        return kind(backend, prompts, options=options, codec=codec, eos=facts.eos, cut=cut)
    starts = [[facts.decoder_start] for _ in prompts]
    return kind(backend, starts, options=options, codec=codec, eos=facts.eos, sources=prompts)


def all_results(run: Run) -> list[Result]:
    """Run to the end: the answer to each prompt."""
    for _ in run:
        pass
    return run.results()
