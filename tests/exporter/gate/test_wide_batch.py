from __future__ import annotations

import pytest

from jisu.exporter.gate import FP32_BUDGET, gate_prompts, quality_budget, run_gate
from tests.exporter.gate.numpy_llama import VOCAB, NumpyLlama


@pytest.mark.parametrize("budget", [FP32_BUDGET, quality_budget(max_mean_kl=0.01)], ids=["fp32", "reduced"])
@pytest.mark.parametrize(
    ("fault", "words"),
    [
        ("right-for-three", "of 17 differs in the first call"),
        ("reorder-ignored", "of 17 differs in the step after rows changed places"),
    ],
)
def test_what_three_rows_do_not_show(fault, words, budget, llama, reference, short_prompts):
    result = run_gate(NumpyLlama(llama, fault), reference, prompts=short_prompts, budget=budget)
    assert [check.name for check in result.checks if not check.passed] == ["batch-17"]
    assert words in result.summary


@pytest.mark.parametrize("positions", [8, 12, 50])
def test_rows_fit_into_short_models(positions, llama, reference):
    prompts = gate_prompts(None, VOCAB, positions)
    result = run_gate(NumpyLlama(llama), reference, prompts=prompts, budget=FP32_BUDGET)
    assert result.accepted, result.summary
