from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from jisu.exporter.contract.signature import Signature, StateSpec
from jisu.exporter.gate import FP32_BUDGET, gate_prompts, run_gate
from jisu.exporter.gate.positions import _far_bounds, choose_range
from jisu.exporter.precision.budget import quality_budget
from jisu.exporter.sources import load_source
from jisu.exporter.tracing.trace_source import traced_interface
from tests.exporter.gate.numpy_llama import VOCAB, NumpyLlama


def state(*layers, kind="kv", dims=("B", 2, "capacity", 16)):
    return tuple(
        StateSpec(
            past=f"past_key_values.{layer}.key", present=f"present.{layer}.key", kind=kind, dtype="float32", dims=dims
        )
        for layer in layers
    )


class Traced:
    def __init__(self, *names):
        self.names = names

    def state_spec(self):
        return [(name, "kv", ("B", 2, "capacity", 16), "float32") for name in self.names]


def plan(module, specs, **options):
    settings = {"max_positions": 512, "windows": (), "switches": (), **options}
    return choose_range(module, Signature(inputs=(), outputs=(), state=specs), **settings)


def test_one_position_of_a_text_over_the_whole_range_shows(llama, reference):
    prompts = gate_prompts(None, VOCAB, 512, far=512)
    right, wrong = (
        run_gate(NumpyLlama(llama, fault), reference, prompts=prompts, budget=FP32_BUDGET)
        for fault in (None, "row-311")
    )
    assert right.accepted, right.summary
    assert [check.name for check in wrong.checks if not check.passed] == ["far-positions"]
    assert "Position 311 differs" in wrong.summary


def test_a_text_is_read_in_chunks_as_large_as_a_runtime_makes_and_in_single_tokens():
    bounds = _far_bounds(2312, 2320, 49152)
    assert max(stop - start for start, stop in bounds) == 1024
    assert bounds[-8:] == [(position, position + 1) for position in range(2312, 2320)]
    assert all(stop == start for (_, stop), (start, _) in itertools.pairwise(bounds))
    assert bounds[0][0] == 0


def test_places_reach_to_the_last_position_and_to_the_edges_of_windows():
    requested = plan(Traced("0.key"), state(0), windows=(64,), switches=(300,))
    assert max(requested.places) == 512 - 3
    for edge in (64, 300):
        assert {edge - 2, edge + 1} <= set(requested.places)
    assert min(requested.places) > 0


def test_a_state_that_is_not_the_sources_or_does_not_grow_is_not_asked():
    assert plan(Traced("1.key"), state(0)) is None
    assert plan(Traced("0.key"), state(0, kind="recurrent", dims=("B", 4))) is None
    assert plan(object(), state(0)) is None


def test_a_large_state_is_asked_as_far_as_its_memory_goes():
    requested = plan(Traced("0.key"), state(0, dims=("B", 1024, "capacity", 1024)), max_positions=4096)
    assert max(requested.places) < 128


@pytest.mark.parametrize("place", [100, 509])
def test_a_made_past_is_the_same_for_both(place, tiny_artifact, tiny_source):
    """The source itself as the candidate would differ in nothing; a candidate whose past is moved does."""
    from jisu.exporter.gate.exam import Exam, Truth
    from jisu.exporter.gate.positions import check_range
    from jisu.exporter.gate.reference import reference_of
    from jisu.runtimes.backends.registry import open_backend

    source = load_source(tiny_source)
    signature = tiny_artifact.manifest.signature
    requested = choose_range(traced_interface(source.module), signature, max_positions=512, windows=(64,), switches=())
    requested = replace(requested, places=(place,))
    backend = open_backend("ort-cpu", tiny_artifact)
    exam = Exam(
        backend=backend,
        truth=Truth(reference_of(source)),
        prompts=gate_prompts(source.tokenizer, source.model.vocab_size, 512),
        budget=FP32_BUDGET,
    )
    assert check_range(exam, requested).passed

    class Late:
        """Counts one position too few behind 300 tokens."""

        vocab_size = backend.vocab_size

        def new_state(self, batch, capacity):
            return backend.new_state(batch, capacity)

        def forward(self, token_ids, state, *, logits="last"):
            if state.lengths[0] > 300:
                state.place(state.lengths - 1)
            return backend.forward(token_ids, state, logits=logits)

    assert check_range(replace(exam, backend=Late()), requested).passed == (place < 300)
    assert np.array_equal(requested.places, [place])


def test_a_candidate_may_leave_anything_behind_its_tokens(tiny_artifact, tiny_source):
    from jisu.exporter.gate.exam import Exam, Truth
    from jisu.exporter.gate.positions import check_range
    from jisu.exporter.gate.reference import reference_of
    from jisu.runtimes.backends.registry import open_backend

    source = load_source(tiny_source)
    signature = tiny_artifact.manifest.signature
    requested = choose_range(traced_interface(source.module), signature, max_positions=512, windows=(), switches=())
    backend = open_backend("ort-cpu", tiny_artifact)

    class Untidy:
        vocab_size = backend.vocab_size

        def new_state(self, batch, capacity):
            return backend.new_state(batch, capacity)

        def forward(self, token_ids, state, *, logits="last"):
            actual = backend.forward(token_ids, state, logits=logits).copy()
            for past in state.past:
                past[:, :, int(state.lengths[0]) :] = 7
            return actual

    exam = Exam(
        backend=Untidy(),
        truth=Truth(reference_of(source)),
        prompts=gate_prompts(source.tokenizer, source.model.vocab_size, 512),
        budget=FP32_BUDGET,
    )
    actual = check_range(exam, replace(requested, places=(100, 200, 400)))
    assert actual.passed, actual.detail
    backend.close()


def test_tokens_that_a_candidate_does_not_write_are_not_there(tiny_artifact, tiny_source):
    """The source writes the same tokens into a buffer that both share: it has to come after the candidate."""
    from jisu.exporter.gate.exam import Exam, Truth
    from jisu.exporter.gate.positions import check_range
    from jisu.exporter.gate.reference import reference_of
    from jisu.runtimes.backends.registry import open_backend

    source = load_source(tiny_source)
    signature = tiny_artifact.manifest.signature
    requested = choose_range(traced_interface(source.module), signature, max_positions=512, windows=(), switches=())
    backend = open_backend("ort-cpu", tiny_artifact)

    class Forgetful:
        vocab_size = backend.vocab_size

        def new_state(self, batch, capacity):
            return backend.new_state(batch, capacity)

        def forward(self, token_ids, state, *, logits="last"):
            parts = []
            for token in token_ids[0]:
                before = [past.copy() for past in state.past]
                parts.append(backend.forward(np.array([[token]]), state).copy())
                for past, earlier in zip(state.past, before, strict=True):
                    past[...] = earlier
            return np.concatenate(parts, axis=1)

    exam = Exam(
        backend=Forgetful(),
        truth=Truth(reference_of(source)),
        prompts=gate_prompts(source.tokenizer, source.model.vocab_size, 512),
        budget=FP32_BUDGET,
    )
    assert not check_range(exam, replace(requested, places=(40,))).passed
    backend.close()


@pytest.mark.parametrize(
    ("precision", "requested"), [("fp32", True), ("int8", True), ("int4", False), ("w8a8-dynamic", False)]
)
def test_made_pasts_are_asked_of_precisions_that_take_them(
    tiny_artifact, tiny_source, precision, requested, monkeypatch
):
    from jisu.exporter.gate import positions, prove

    monkeypatch.setattr(positions, "check_range", lambda exam, span: (exam, span))
    manifest = replace(tiny_artifact.manifest, precision=precision)
    artifact = replace(tiny_artifact, manifest=manifest)
    actual = prove._check_whole_range(artifact, load_source(tiny_source), {}, 0, None)
    assert bool(actual) is requested


def test_a_long_call_that_says_something_else_than_short_ones_is_found(llama, reference):
    budget = quality_budget(max_mean_kl=1.0)
    prompts = gate_prompts(None, VOCAB, 512, far=512)
    right, wrong = (
        run_gate(candidate, reference, prompts=prompts, budget=budget)
        for candidate in (NumpyLlama(llama, None), HalvedInLongCalls(llama, None))
    )
    assert {check.name: check.passed for check in right.checks}["long-call"]
    failed = [check for check in wrong.checks if not check.passed]
    assert [check.name for check in failed] == ["long-call"]
    assert "0.78" in failed[0].detail


# One more than the longest call of the other checks.
class HalvedInLongCalls(NumpyLlama):
    def forward(self, token_ids, state, **options):
        logits = super().forward(token_ids, state, **options)
        return logits * np.float32(0.5) if token_ids.shape[1] > 301 else logits


def test_the_source_is_asked_when_the_candidate_rests(tiny_artifact, tiny_source, monkeypatch):
    """Both in memory at once would be the largest model twice."""
    from jisu.exporter.gate import positions
    from jisu.exporter.gate.exam import Exam, Truth
    from jisu.exporter.gate.reference import reference_of
    from jisu.runtimes.backends.registry import open_backend

    source = load_source(tiny_source)
    requested = choose_range(
        traced_interface(source.module), tiny_artifact.manifest.signature, max_positions=512, windows=(), switches=()
    )
    backend = open_backend("ort-cpu", tiny_artifact)
    order: list[str] = []
    for made, name in ((positions._MadePast, "source_logits"), (positions._MadePast, "candidate_logits")):
        original = getattr(made, name)
        monkeypatch.setattr(
            made, name, lambda *args, original=original, name=name: order.append(name) or original(*args)
        )
    rest = backend.rest
    monkeypatch.setattr(backend, "rest", lambda: order.append("rest") or rest())
    exam = Exam(
        backend=backend,
        truth=Truth(reference_of(source)),
        prompts=gate_prompts(source.tokenizer, source.model.vocab_size, 512),
        budget=FP32_BUDGET,
    )
    assert positions.check_range(exam, replace(requested, places=(100, 200))).passed
    assert order == ["rest"] + ["candidate_logits"] * 2 + ["rest"] + ["source_logits"] * 2
    backend.close()
