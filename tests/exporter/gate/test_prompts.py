from __future__ import annotations

import numpy as np
import pytest

from exporter.contract.errors import InputError
from exporter.gate import gate_prompts
from exporter.gate.prompts import FAR, FAR_STEPS, held_out_text


class Bytes:
    """One token per byte."""

    def encode(self, text):
        return list(text.encode())


def test_full_plan_covers_what_the_gate_promises():
    prompts = gate_prompts(Bytes(), 256, None)
    assert prompts.prefill_lengths == (1, 2, 37, 300)
    assert prompts.decode_steps >= 32
    assert len({len(row) for row in prompts.rows}) == 3
    assert sum(len(window) for window in prompts.windows) == 8 * 256


def test_held_out_windows_share_nothing_with_the_first_half_or_the_long_sequence():
    from pydoc_data.topics import topics

    prose = "\n".join(topics[name] for name in sorted(topics))
    assert prose.endswith(held_out_text())
    prompts = gate_prompts(Bytes(), 256, None)
    text = bytes(np.concatenate([prompts.sequence, *prompts.windows]).astype(np.uint8)).decode()
    assert held_out_text().startswith(text)


def test_same_call_gives_the_same_plan():
    first, second = gate_prompts(None, 100, 64), gate_prompts(None, 100, 64)
    assert np.array_equal(first.sequence, second.sequence)
    assert all(np.array_equal(a, b) for a, b in zip(first.rows, second.rows, strict=True))


def test_a_long_text_is_for_models_that_have_such_positions():
    assert gate_prompts(None, 50, FAR - 1).far is None
    assert gate_prompts(Bytes(), 256, None).far is None
    far = gate_prompts(Bytes(), 256, FAR).far
    assert far is not None
    assert len(far) - FAR_STEPS > 2048


@pytest.mark.parametrize("positions", range(8, 70))
def test_every_prompt_fits_into_a_short_model(positions):
    prompts = gate_prompts(None, 50, positions)
    assert len(prompts.sequence) == positions
    assert prompts.prefill_lengths[-1] == positions
    assert max(len(row) for row in prompts.rows) <= positions
    assert len({len(row) for row in prompts.rows}) == 3
    assert min(len(row) for row in prompts.rows) > prompts.batch_steps > 0
    assert max(len(prompt) for prompt in prompts.greedy) + prompts.greedy_steps <= positions
    assert all(len(window) <= positions for window in prompts.windows)


def test_too_short_a_model_is_refused():
    with pytest.raises(InputError, match="at least 8"):
        gate_prompts(None, 50, 7)


def test_a_tokenizer_of_a_larger_vocabulary_is_refused():
    with pytest.raises(InputError, match="does not belong to the model"):
        gate_prompts(Bytes(), 100, None)
