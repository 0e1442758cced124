from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate import gate_prompts
from jisu.exporter.gate.domains import BUILT_IN, held_out_prose
from jisu.exporter.gate.prompts import FAR, far_length


class Bytes:
    """One token per byte."""

    def encode(self, text):
        return list(text.encode())


def test_full_plan_covers_what_the_gate_promises():
    prompts = gate_prompts(Bytes(), 256, None)
    assert prompts.prefill_lengths == (1, 2, 37, 300)
    assert prompts.decode_steps >= 32
    assert len({len(row) for row in prompts.rows}) == 3
    assert [domain.name for domain in prompts.judged.domains] == list(BUILT_IN)


def test_the_long_sequence_is_held_out_prose():
    prompts = gate_prompts(Bytes(), 256, None)
    assert held_out_prose().encode().startswith(bytes(prompts.sequence.astype(np.uint8)))


def test_same_call_gives_the_same_plan():
    first, second = gate_prompts(None, 100, 64), gate_prompts(None, 100, 64)
    assert np.array_equal(first.sequence, second.sequence)
    assert all(np.array_equal(a, b) for a, b in zip(first.rows, second.rows, strict=True))


def test_random_ids_leave_padding_out_where_it_is_named():
    """Only then, and every other id comes."""
    for padding in (None, 0, 3, 7):
        prompts = gate_prompts(None, 8, 64, padding=padding)
        ids = np.concatenate([prompts.sequence, *prompts.rows, *prompts.judged.windows])
        assert set(ids.tolist()) == set(range(8)) - {padding}
    assert np.array_equal(gate_prompts(None, 8, 64).sequence, gate_prompts(None, 8, 64, padding=8).sequence)


def test_a_long_text_reaches_over_the_whole_range_where_that_is_affordable():
    assert far_length(parameters=10**6, heads=4, max_positions=512) == 512
    assert far_length(parameters=10**6, heads=4, max_positions=4096) == 4096
    assert far_length(parameters=10**6, heads=4, max_positions=None) == FAR
    # The attention of many heads, and the products of many parameters, cost more than they are worth.
    assert far_length(parameters=10**6, heads=16, max_positions=8192) == FAR
    assert far_length(parameters=10**9, heads=4, max_positions=8192) == FAR


def test_a_long_text_is_as_long_as_it_is_asked_to_be():
    assert gate_prompts(None, 50, 512).far is None
    assert gate_prompts(Bytes(), 256, 512, far=300).far is None  # no longer than what is asked anyway
    far = gate_prompts(Bytes(), 256, FAR, far=FAR).far
    assert far is not None
    assert far.shape == (FAR,)


@pytest.mark.parametrize("positions", range(8, 70))
def test_every_prompt_fits_into_a_short_model(positions):
    prompts = gate_prompts(None, 50, positions)
    assert len(prompts.sequence) == positions
    assert prompts.prefill_lengths[-1] == positions
    assert max(len(row) for row in prompts.rows) <= positions
    assert len({len(row) for row in prompts.rows}) == 3
    assert min(len(row) for row in prompts.rows) > prompts.batch_steps > 0
    assert max(len(prompt) for prompt in prompts.greedy) + prompts.greedy_steps <= positions
    assert all(len(window) <= positions for window in prompts.judged.windows)


def test_too_short_a_model_is_refused():
    with pytest.raises(InputError, match="at least 8"):
        gate_prompts(None, 50, 7)


def test_a_tokenizer_of_a_larger_vocabulary_is_refused():
    with pytest.raises(InputError, match="does not belong to the model"):
        gate_prompts(Bytes(), 100, None)
