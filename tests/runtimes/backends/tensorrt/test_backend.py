from __future__ import annotations

from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.tensorrt.backend import PlanBackend
from jisu.runtimes.backends.tensorrt.profiles import Shapes
from jisu.runtimes.generation.options import SamplingOptions
from jisu.runtimes.generation.text_run import new_token_limit
from tests.runtimes.backends.tensorrt.pretended import PLAN, Cuda, pretended_library
from tests.runtimes.tiny_models import logits_of, write_artifact

SHAPES = Shapes(capacity=24, prompt=4, batch=3)
ROWS = [[3, 7, 1, 9, 22, 4, 5], [8, 2, 6], [11]]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return write_artifact(tmp_path_factory.mktemp("plan") / "a", "tensorrt")


def opened(artifact, *, plan=PLAN, cuda=None):
    return PlanBackend(pretended_library(artifact), plan, artifact, shapes=SHAPES, cuda=cuda or Cuda())


def padded(rows):
    width = max(map(len, rows))
    return np.array([row + [0] * (width - len(row)) for row in rows]), np.array([len(row) for row in rows])


def near(actual, expected):
    np.testing.assert_allclose(actual, expected, rtol=2e-4, atol=2e-4)


def test_a_prompt_longer_than_the_profile_goes_through_in_pieces(artifact):
    backend = opened(artifact)
    state = backend.new_state(1, 10)
    near(backend.forward(np.array([ROWS[0]]), state)[0], logits_of(ROWS[0])[-1:])
    near(backend.forward(np.array([[5]]), state)[0], logits_of([*ROWS[0], 5])[-1:])
    assert state.lengths.tolist() == [8]


@pytest.mark.parametrize("rows", [ROWS, [row[:4] for row in ROWS]])
def test_rows_of_unequal_lengths_give_their_own_last_logits(artifact, rows):
    backend = opened(artifact)
    state = backend.new_state(3, 24)
    ids, new = padded(rows)
    out = backend.forward(ids, state, new_lengths=new)
    for row, actual in zip(rows, out, strict=True):
        near(actual, logits_of(row)[-1:])
    out = backend.forward(np.array([[1], [2], [3]]), state)
    for row, token, actual in zip(rows, (1, 2, 3), out, strict=True):
        near(actual, logits_of([*row, token])[-1:])


def test_all_logits_are_those_of_every_position(artifact):
    backend = opened(artifact)
    out = backend.forward(np.array([ROWS[0]]), backend.new_state(1, 10), logits="all")
    near(out[0], logits_of(ROWS[0]))


def test_a_state_is_rewound_and_reordered(artifact):
    backend = opened(artifact)
    state = backend.new_state(2, 24)
    backend.forward(np.array([ROWS[0][:3], ROWS[1]]), state)
    state.reorder(np.array([1, 1]))
    state.rewind(np.array([2, 3]))
    out = backend.forward(np.array([[9], [9]]), state)
    near(out[0], logits_of([*ROWS[1][:2], 9])[-1:])
    near(out[1], logits_of([*ROWS[1], 9])[-1:])


def test_a_foreign_plan_is_one_clear_error(artifact):
    with pytest.raises(InputError, match="header is not ours.*build it again: jisu build"):
        opened(artifact, plan=b"another")


def test_more_than_the_plan_was_built_for_is_refused(artifact):
    backend = opened(artifact)
    for batch, capacity in ((4, 8), (1, 25)):
        with pytest.raises(InputError, match="3 rows of 24 tokens.*larger --batch or --capacity"):
            backend.new_state(batch, capacity)


def test_memory_that_is_not_there_says_how_much_was_needed(artifact):
    cuda = Cuda()
    backend = opened(artifact, cuda=cuda)
    cuda.room = 16
    with pytest.raises(InputError, match="no room for a state of .* MB needed, 0 of 0 MB free"):
        backend.new_state(1, 8)


def test_closing_gives_everything_back(artifact):
    cuda = Cuda()
    backend = opened(artifact, cuda=cuda)
    state = backend.new_state(1, 8)
    backend.close()
    backend.close()
    assert cuda.held == {}
    with pytest.raises(InputError, match="is closed"):
        backend.forward(np.array([[1]]), state)


def test_single_tokens_are_recorded_once_for_each_state(artifact):
    cuda = Cuda()
    backend = opened(artifact, cuda=cuda)
    said = {}
    for batch in (1, 2):
        state = backend.new_state(batch, 12)
        rows = [list(ROWS[0][:3]) for _ in range(batch)]
        backend.forward(np.array(rows), state)
        for token in (5, 6, 7, 8):
            out = backend.forward(np.full((batch, 1), token), state)
            rows = [[*row, token] for row in rows]
        near(out[-1], logits_of(rows[-1])[-1:])
        said[batch] = state
    assert backend.captured == 2
    assert cuda.launched == 6  # the second to fourth token of each
    # Going back to the first state, the recording is still that of its addresses.
    near(backend.forward(np.array([[1]]), said[1])[0], logits_of([*ROWS[0][:3], 5, 6, 7, 8, 1])[-1:])
    assert cuda.launched == 7


def test_what_cannot_be_recorded_is_run_all_the_same(artifact):
    cuda = Cuda()
    cuda.records = False
    backend = opened(artifact, cuda=cuda)
    state = backend.new_state(1, 12)
    for token in (5, 6, 7):
        out = backend.forward(np.array([[token]]), state)
    near(out[0], logits_of([5, 6, 7])[-1:])
    assert (backend.captured, cuda.launched) == (0, 0)


def test_a_state_that_nobody_holds_gives_its_memory_back(artifact):
    cuda = Cuda()
    backend = opened(artifact, cuda=cuda)
    before = len(cuda.held)
    state = backend.new_state(1, 8)
    for token in (1, 2):
        backend.forward(np.array([[token]]), state)
    assert len(cuda.held) > before
    assert len(cuda.graphs) == 1
    del state
    assert len(cuda.held) == before
    assert cuda.graphs == []


def test_a_plan_that_does_not_fit_says_what_lowers_the_need(artifact, monkeypatch):
    library = pretended_library(artifact)
    runtime = library.module.Runtime

    class Full(runtime):
        def deserialize_cuda_engine(self, plan):
            return SimpleNamespace(create_execution_context=lambda: None, device_memory_size_v2=5_000_000)

    monkeypatch.setattr(library.module, "Runtime", Full)
    with pytest.raises(InputError, match="no room for the plan.*5 MB needed.*smaller --prompt, --batch or --capacity"):
        PlanBackend(library, PLAN, artifact, shapes=SHAPES, cuda=Cuda())


def test_weights_that_do_not_fit_are_no_damaged_plan(artifact, monkeypatch):
    library = pretended_library(artifact)
    runtime = library.module.Runtime

    class Full(runtime):
        def deserialize_cuda_engine(self, plan):
            self._logger.log(
                0, "[defaultAllocator.cpp] Error Code 2: OutOfMemory (Requested size was 272629760 bytes.)"
            )

    monkeypatch.setattr(library.module, "Runtime", Full)
    with pytest.raises(InputError, match="no room for the weights.*3 MB needed: .*OutOfMemory.*--precision int4"):
        PlanBackend(library, bytes(3_000_000), artifact, shapes=SHAPES, cuda=Cuda())


def test_a_prompt_beyond_the_plan_names_the_option(artifact):
    backend = opened(artifact)
    limit = partial(new_token_limit, positions=backend.max_positions, name="The prompt", longer=backend.longer)
    with pytest.raises(InputError, match="too long for this plan.*30 tokens.*23 of the plan's 24.*larger --capacity"):
        limit(30, options=SamplingOptions())
    with pytest.raises(InputError, match="past the plan's positions.*at most 4 new tokens, or open a plan with"):
        limit(20, options=SamplingOptions(max_new_tokens=9))
