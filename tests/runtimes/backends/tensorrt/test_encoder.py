from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.backend import EncoderBackend, TopBackend
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.tensorrt.encoder import open_encoder_decoder
from jisu.runtimes.backends.tensorrt.profiles import Shapes
from tests.runtimes.backends.tensorrt.pretended import ENCODER_PLAN, PLAN, Cuda, pretended_library

SHAPES = Shapes(capacity=24, prompt=1, batch=4, source=8)
SOURCES = [[5, 6, 7], [9, 1]]


def opened(artifact, *, plans=(PLAN, ENCODER_PLAN), cuda=None):
    return open_encoder_decoder(pretended_library(artifact), plans, artifact, shapes=SHAPES, cuda=cuda or Cuda())


def test_copies_of_a_source_say_what_it_says_alone(text_to_text_tensorrt):
    backend = opened(text_to_text_tensorrt)
    assert isinstance(backend, EncoderBackend)
    assert not isinstance(backend, TopBackend)
    together = backend.encode(SOURCES, capacity=4, copies=2)
    actual = backend.forward(np.full((4, 1), 2), together)
    for row in range(4):
        alone = backend.encode([SOURCES[row // 2]], capacity=4)
        expected = backend.forward(np.array([[2]]), alone)[0]
        np.testing.assert_allclose(actual[row], expected, rtol=2e-4, atol=2e-4)


def test_single_tokens_behind_a_source_are_recorded_and_what_was_encoded_stays(text_to_text_tensorrt):
    cuda = Cuda()
    backend = opened(text_to_text_tensorrt, cuda=cuda)
    state = backend.encode(SOURCES[:1], capacity=8)
    one_by_one = [backend.forward(np.array([[token]]), state).copy() for token in (2, 9, 8, 7)]
    assert cuda.launched == 3
    again = backend.encode(SOURCES[:1], capacity=8)
    all_at_once = backend.forward(np.array([[2, 9, 8, 7]]), again, logits="all")
    np.testing.assert_allclose(np.concatenate(one_by_one, axis=1), all_at_once, rtol=2e-4, atol=2e-4)


def test_more_than_the_plans_were_built_for_names_the_option(text_to_text_tensorrt):
    backend = opened(text_to_text_tensorrt)
    assert (backend.max_positions, backend.max_source_positions) == (24, 8)
    with pytest.raises(InputError, match="too long for this plan to read.*9 tokens.*1 to 8.*larger --prompt"):
        backend.encode([[5] * 9], capacity=4)
    with pytest.raises(InputError, match="6 rows of 4 tokens.*4 rows of 24 tokens.*larger --batch"):
        backend.encode(SOURCES, capacity=4, copies=3)


def test_an_encoders_plan_of_something_else_is_one_clear_error(text_to_text_tensorrt):
    with pytest.raises(InputError, match="encoder.onnx cannot be opened.*header is not ours"):
        opened(text_to_text_tensorrt, plans=(PLAN, b"another"))


def test_memory_goes_back_with_the_state_and_at_the_end(text_to_text_tensorrt):
    cuda = Cuda()
    backend = opened(text_to_text_tensorrt, cuda=cuda)
    before = len(cuda.held)
    state = backend.encode(SOURCES, capacity=4)
    assert len(cuda.held) == before + len(state.tensors)
    del state
    assert len(cuda.held) == before
    backend.close()
    backend.close()
    assert cuda.held == {}
    with pytest.raises(InputError, match="is closed"):
        backend.encode(SOURCES, capacity=4)
