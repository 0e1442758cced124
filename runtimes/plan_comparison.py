"""Compares a plan with the graph that it was built from, token by token, by Polygraphy's `Comparator`.

Both are fed the same at every call: a prompt, then single tokens, with the state that the graph itself left behind.
(Of itself the Comparator feeds random numbers, which are no positions in a cache.) **Never run on a GPU**: the tests
compare the graph with another graph.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import CAPACITY, INPUT_IDS, LOGITS_POSITIONS, PAST_LENGTH, Signature
from jisu.runtimes.backends.ort.kernels import check_kernels
from jisu.runtimes.backends.ort.session import open_session
from jisu.runtimes.backends.tensorrt.contexts import open_engine
from jisu.runtimes.backends.tensorrt.library import Library
from jisu.runtimes.backends.tensorrt.plan_graph import plan_graphs
from jisu.runtimes.backends.tensorrt.profiles import DECODE, PREFILL, Shapes, profiles_for
from jisu.runtimes.generation.text import open_codec

# What another order of the same sums explains, in sd of an output. Not yet calibrated on a GPU.
_LIMITS = {"float32": 0.01, "float16": 0.1}
Feeds = dict[str, npt.NDArray[Any]]
_TEXT = "A lighthouse keeper counts the ships that pass at night, and writes down which of them did not come back. "
# The number of a profile -> Polygraphy's runner of the plan in it.
PlanRunner = Callable[[int], Any]


@dataclass(frozen=True, kw_only=True)
class OutputError:
    """How far one output of the plan is from the graph's, in sd, and how far it may be."""

    error: float
    limit: float

    def __bool__(self) -> bool:
        return self.error <= self.limit  # NaN is no match


@dataclass(frozen=True, kw_only=True)
class PlanComparison:
    """Every output's error: one dict for each call, the prompt's first; in the order in which layers follow."""

    calls: tuple[dict[str, OutputError], ...]

    @property
    def first(self) -> tuple[int, str] | None:
        """The first call at which plan and graph part, and the first output that does there; None where none does."""
        for step, outputs in enumerate(self.calls):
            for name, error in outputs.items():
                if not error:
                    return step, name
        return None

    def describe(self) -> list[str]:
        """Each call's worst output, and in a sentence where plan and graph part."""
        lines = []
        for step, outputs in enumerate(self.calls):
            name = max(outputs, key=lambda name: (outputs[name].error != outputs[name].error, outputs[name].error))
            lines.append(f"{_call(step):14}  {outputs[name].error:.2e}  {name}")
        lines.append("The output that is furthest off in each call, in standard deviations of what the graph gives.")
        if self.first is None:
            return [*lines, "The plan says what its graph says."]
        step, name = self.first
        error = self.calls[step][name]
        where = f"Plan and graph part at {_call(step)}, first in {name}"
        return [*lines, f"{where}: {error.error:.3g} sd, which exceeds the tolerance of {error.limit:g}."]

    def to_dict(self) -> dict[str, Any]:
        errors = [
            {name: error.error if np.isfinite(error.error) else None for name, error in outputs.items()}
            for outputs in self.calls
        ]
        first = None if self.first is None else {"call": self.first[0], "output": self.first[1]}
        return {"first": first, "errors_in_sd": errors}


def _call(step: int) -> str:
    return "the prompt" if step == 0 else f"decode step {step}"


def text_to_compare(artifact: Artifact, tokens: int) -> list[int]:
    """So many token ids of a text; any that the model has where it comes without a tokenizer."""
    codec = open_codec(artifact.folder)
    ids = [] if codec is None else codec.encode(_TEXT, special_tokens=True)
    ids = ids or list(range(min(artifact.manifest.model.vocab_size, tokens)))
    return [ids[index % len(ids)] for index in range(tokens)]


def compare_plan(
    artifact: Artifact, runner_of: PlanRunner, *, shapes: Shapes, token_ids: Sequence[int], prompt: int
) -> PlanComparison:
    """Run plan and graph side by side.

    Args:
        runner_of: see `plan_runner`.
        shapes: what the plan was built for.
        token_ids: the text.
        prompt: how many of them are fed at once; the others follow one by one.

    Raises:
        InputError: the state is of a type that numpy lacks, or the text does not fit the plan.
    """
    signature = artifact.manifest.signature
    _check(artifact, shapes, tokens=len(token_ids), prompt=prompt)
    cuts = [0, *range(1 if signature.takes_one_token else prompt, len(token_ids)), len(token_ids)]
    widths = [stop - start for start, stop in pairwise(cuts)]
    calls: list[dict[str, OutputError]] = []
    for number, profile in enumerate(profiles_for(signature, shapes)):
        indices = {PREFILL: range(1), DECODE: range(1, len(widths))}[profile.name]
        if signature.takes_one_token:
            indices = range(len(widths))
        feeds = (
            feed
            for index, feed in enumerate(recorded_feeds(artifact, token_ids, widths, capacity=shapes.capacity))
            if index in indices
        )
        if indices:
            calls += _compared(artifact, runner_of(number), feeds)
    return PlanComparison(calls=tuple(calls))


def plan_runner(library: Library, plan: bytes, artifact: Artifact) -> PlanRunner:
    """What runs a plan on the GPU of this machine.

    Raises:
        InputError: the library cannot read the plan here.
    """
    import polygraphy.config

    polygraphy.config.USE_TENSORRT_RTX = library.is_rtx  # read when its backend is imported
    from polygraphy.backend.trt import TrtRunner

    runtime, engine, _ = open_engine(library, plan, plan_graphs(artifact)[0])

    def runner_of(profile: int) -> Any:
        runner = TrtRunner(engine, name="plan", optimization_profile=profile)
        runner.jisu_runtime = runtime  # lives as long as its engine
        return runner

    return runner_of


def recorded_feeds(
    artifact: Artifact, token_ids: Sequence[int], widths: Sequence[int], *, capacity: int
) -> Iterator[Feeds]:
    """What goes into the graph at each call, its state as the calls before left it."""
    session = _session(artifact)
    signature = artifact.manifest.signature
    read = {item.name for item in session.get_inputs()}
    ids = np.asarray(token_ids, np.int64)
    states = {spec.past: np.zeros(_sizes(spec.dims, capacity), spec.dtype) for spec in signature.state}
    start = 0
    for width in widths:
        feeds: Feeds = {
            INPUT_IDS: ids[None, start : start + width],
            PAST_LENGTH: np.array([start], np.int64),
            LOGITS_POSITIONS: np.array([[width - 1]], np.int64),
            **states,
        }
        feeds = {name: array for name, array in feeds.items() if name in read}
        yield feeds
        names = [spec.present for spec in signature.state]
        arrays = session.run(names, feeds)
        states = {spec.past: array for spec, array in zip(signature.state, arrays, strict=True)}
        start += width


def _compared(artifact: Artifact, plan: Any, feeds: Iterator[Feeds]) -> list[dict[str, OutputError]]:
    from polygraphy.backend.onnxrt import OnnxrtRunner
    from polygraphy.comparator import Comparator
    from polygraphy.logger import G_LOGGER

    graph = OnnxrtRunner(_session(artifact), name="graph")
    signature = artifact.manifest.signature
    with G_LOGGER.verbosity(G_LOGGER.CRITICAL):
        results = Comparator.compare_accuracy(
            Comparator.run([graph, plan], data_loader=feeds, streaming=True),
            compare_func=lambda first, second: _errors(signature, first, second),
        )
    return [dict(outputs) for outputs in results[0][graph.name, plan.name]]


def _errors(signature: Signature, graph: Any, plan: Any) -> OrderedDict[str, OutputError]:
    """Of the states first, in the order of their layers, then of the logits."""
    dtypes = {spec.present: spec.dtype for spec in signature.state}
    dtypes.update({spec.name: spec.dtype for spec in signature.outputs})
    limit = max(_LIMITS[dtype] for dtype in dtypes.values())
    errors: OrderedDict[str, OutputError] = OrderedDict()
    for name in dtypes:
        expected, actual = np.asarray(graph[name], np.float64), np.asarray(plan[name], np.float64)
        if expected.shape != actual.shape:
            errors[name] = OutputError(error=float("inf"), limit=limit)
            continue
        written = expected[expected != 0]  # the rest of a cache is zeros
        spread = float(written.std()) if written.size else 0.0
        errors[name] = OutputError(
            error=float(np.abs(expected - actual).max(initial=0.0)) / (spread or 1.0), limit=limit
        )
    return errors


def _check(artifact: Artifact, shapes: Shapes, *, tokens: int, prompt: int) -> None:
    signature = artifact.manifest.signature
    kinds = {spec.dtype for spec in signature.state} | {spec.dtype for spec in signature.outputs}
    if not kinds <= set(_LIMITS) or not signature.state or signature.encoded:
        raise InputError(
            f"The plan of {artifact.folder} cannot be compared with its graph",
            received="a model with an encoder"
            if signature.encoded
            else ", ".join(sorted(kinds - set(_LIMITS))) or "a model without a state",
            allowed=f"a decoder alone whose state is {' or '.join(_LIMITS)}",
            fix="Compare the answers instead: jisu compare ARTIFACT --backends ort-cpu tensorrt-rtx.",
        )
    if not (0 < prompt <= min(tokens, shapes.prompt) and tokens <= shapes.capacity):
        raise InputError(
            "The text to compare with does not fit the plan",
            received=f"a prompt of {prompt} tokens, {tokens} with those that follow",
            allowed=f"1 to {shapes.prompt}, and up to {shapes.capacity}, what the plan was built for",
            fix="Choose other --prompt-tokens and --steps.",
        )


def _session(artifact: Artifact) -> Any:
    check_kernels(artifact)
    return open_session(artifact.cpu_graph, threads=None)


def _sizes(dims: Sequence[int | str], capacity: int) -> list[int]:
    return [dim if isinstance(dim, int) else capacity if dim == CAPACITY else 1 for dim in dims]
