from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest

from jisu.exporter.gate import FP32_BUDGET, Check, gate_prompts, quality_budget, run_gate
from jisu.exporter.gate import run as gate_run
from jisu.exporter.gate.exam import Truth
from jisu.exporter.gate.prompts import FAR
from tests.exporter.gate.numpy_llama import VOCAB, NumpyLlama, tiny_llama

# fault -> (the check that fails first, words of the summary that name what differed)
FAULTS = {
    "no-causal-mask": ("prefill-2", ["Position 0 of 2 differs first", "causal mask is at fault"]),
    "layers-swapped": ("prefill-1", ["Position 0 of 1 differs first", "weights, layers or their order"]),
    "one-weight": ("prefill-1", ["Position 0 of 1 differs first", "weights, layers or their order"]),
    "nan": ("finite", ["NaN or infinity", "prefill of 1 tokens, position 0"]),
    "rotary-base": ("prefill-2", ["Position 1 of 2 differs first", "positions, rotary, attention"]),
    "short-table": ("prefill-300", ["Position 256 of 300 differs first"]),
    "cache-never-updated": ("batch-3", ["Row 0 differs first at position 19, in cached step 0"]),
    "cache-off-by-one": ("batch-3", ["Row 0 differs first at position 19, in cached step 0"]),
    "rows-mixed": ("batch-3", ["Row 0 differs first at position 0", "It holds what row 2 should"]),
    "padding-attended": ("batch-3", ["Row 0", "cached step 0", "what padding leaves in the state is at fault"]),
    "last-is-padding": ("batch-3", ["Row 0", "not its own last"]),
    "raises-on-batches": ("batch-3", ["could not be run", "RuntimeError: batch > 1 is not implemented"]),
    "far-steps": ("decode", ["Step 6 (position 270) differs first", "the cache is at fault"]),
    "chunk-positions": ("chunked-prefill", ["Position 61 differs first", "token 0 of chunk 2 (positions 61..160)"]),
    "rewind-ignored": ("rewind", ["taken back to 34", "Step 0 (position 34) differs first"]),
}


def first_windows(prompts, count):
    domains = [replace(domain, windows=domain.windows[:count]) for domain in prompts.judged.domains]
    return replace(prompts.judged, domains=tuple(domains))


def judge(candidate, reference, prompts, **options):
    return run_gate(candidate, reference, prompts=prompts, **{"budget": FP32_BUDGET, **options})


def test_an_independent_right_implementation_is_accepted(llama, reference, prompts):
    result = judge(NumpyLlama(llama), reference, prompts)
    assert result.accepted, result.summary
    assert [check.name for check in result.checks] == [
        "vocabulary", "finite", "prefill-1", "prefill-2", "prefill-37", "prefill-300", "batch-1", "batch-3",
        "batch-17", "decode", "decode-without-cache", "chunked-prefill", "rewind", "greedy",
    ]  # fmt: skip
    worst = max(check.value for check in result.checks if check.unit == "sd of the logits")
    assert 0 < worst < FP32_BUDGET.max_logit_error / 3


def test_a_candidate_is_not_in_memory_while_a_large_source_reads_everything(llama, reference, prompts, monkeypatch):
    happened: list[str] = []
    candidate = NumpyLlama(llama)
    candidate.rest = lambda: happened.append("rest")
    candidate_forward = candidate.forward

    def forward(*arguments, **options):
        happened.append("forward")
        return candidate_forward(*arguments, **options)

    candidate.forward = forward
    monkeypatch.setattr(reference, "prepare", lambda sequences, progress: happened.append("prepare"), raising=False)
    assert judge(candidate, reference, prompts).accepted
    assert happened[:3] == ["rest", "prepare", "forward"]


@pytest.mark.parametrize("fault", FAULTS)
def test_fault_is_rejected_and_named(fault, llama, reference, prompts):
    result = judge(NumpyLlama(llama, fault), reference, prompts)
    name, words = FAULTS[fault]
    assert not result.accepted
    assert result.first_failure.name == name, result.summary
    for word in words:
        assert word in result.summary


@pytest.mark.parametrize("budget", [FP32_BUDGET, quality_budget(max_mean_kl=0.01)], ids=["fp32", "reduced"])
def test_positions_of_too_few_digits_show_behind_2048(budget, llama, reference, prompts):
    far = np.random.default_rng(1).integers(0, VOCAB, FAR)
    plan = replace(prompts, far=far, judged=first_windows(prompts, 1))
    right, wrong = (
        judge(NumpyLlama(llama, fault), reference, plan, budget=budget) for fault in (None, "half-positions")
    )
    assert right.accepted, right.summary
    assert [check.name for check in wrong.checks if not check.passed] == ["far-positions"]
    assert "too few digits" in wrong.summary
    assert judge(NumpyLlama(llama, "half-positions"), reference, replace(plan, far=None), budget=budget).accepted


@pytest.mark.parametrize("fault", [fault for fault in FAULTS if fault != "one-weight"])
def test_fault_is_rejected_by_the_checks_for_reduced_precision_too(fault, llama, reference, prompts):
    budget = quality_budget(max_mean_kl=0.01)
    result = judge(
        NumpyLlama(llama, fault), reference, replace(prompts, judged=first_windows(prompts, 2)), budget=budget
    )
    assert not result.accepted


@pytest.mark.parametrize("fault", ["cache-never-updated", "cache-off-by-one"])
def test_a_cache_fault_is_told_from_a_wrong_computation(fault, llama, reference, prompts):
    checks = {check.name: check for check in judge(NumpyLlama(llama, fault), reference, prompts).checks}
    assert checks["decode-without-cache"].passed
    assert not checks["decode"].passed
    assert checks["decode"].detail.startswith("Step 0 (position 264) differs first")
    assert "the cache is at fault" in checks["decode"].detail


def test_a_wrong_computation_is_told_from_a_cache_fault(llama, reference, prompts):
    checks = {check.name: check for check in judge(NumpyLlama(llama, "rotary-base"), reference, prompts).checks}
    assert not checks["decode-without-cache"].passed
    assert "the computation is at fault" in checks["decode"].detail


def test_greedy_tokens_of_a_faulty_model_are_counted_as_wrong(llama, reference, prompts):
    checks = {check.name: check for check in judge(NumpyLlama(llama, "layers-swapped"), reference, prompts).checks}
    assert checks["greedy"].value > 50
    assert checks["greedy"].detail.startswith("Prompt 0, step 0: token")


def test_a_near_tie_is_reported_and_not_counted_as_wrong(llama, prompts):
    class Tied:
        """The reference with the winner's logit lowered to a hair below the runner-up's."""

        vocab_size = VOCAB
        description = "tied"

        def __init__(self, inner):
            self.inner = inner

        def logits(self, token_ids, positions=None):
            rows = self.inner.logits(token_ids, positions).copy()
            best, second = np.argsort(rows[0])[[-1, -2]]
            rows[0, best] = rows[0, second] - 1e-4 * rows[0].std()
            return rows

    from jisu.exporter.gate.exam import Exam
    from jisu.exporter.gate.greedy import check_greedy
    from jisu.exporter.gate.reference import TorchReference

    truth = Truth(Tied(TorchReference(llama)))
    exam = Exam(backend=NumpyLlama(llama), truth=truth, prompts=prompts, budget=FP32_BUDGET)
    check = check_greedy(exam)
    assert check.passed
    assert "3 near ties" in check.detail


def test_bf16_weights_fail_fp32_and_pass_a_quality_budget(llama, reference, short_prompts):
    candidate = NumpyLlama(llama, "bf16")
    assert not judge(candidate, reference, short_prompts).accepted
    budget = quality_budget(max_mean_kl=0.05, min_top1=0.9, max_perplexity_ratio=1.2)
    result = judge(candidate, reference, replace(short_prompts, judged=first_windows(short_prompts, 2)), budget=budget)
    assert result.accepted, result.summary
    assert [check.name for check in result.checks][-5:] == [
        "mean-kl", "p99-kl", "top-1", "perplexity-ratio", "confident-changes",
    ]  # fmt: skip
    assert [domain["name"] for domain in result.quality["domains"]] == ["random ids"]
    strict = quality_budget(max_mean_kl=1e-9)
    result = judge(candidate, reference, replace(short_prompts, judged=first_windows(short_prompts, 2)), budget=strict)
    assert result.first_failure.name == "mean-kl"


def test_another_vocabulary_is_rejected_before_anything_runs(llama, reference, short_prompts):
    candidate = NumpyLlama(llama)
    candidate.vocab_size = VOCAB + 1
    result = judge(candidate, reference, short_prompts)
    assert [check.name for check in result.checks] == ["vocabulary"]
    assert not result.accepted


def test_a_source_that_is_not_finite_is_rejected(short_prompts):
    from jisu.exporter.gate.reference import TorchReference

    broken = tiny_llama()
    broken.lm_head.weight.data[7, 7] = float("nan")
    result = judge(NumpyLlama(broken), TorchReference(broken), short_prompts)
    assert result.first_failure.name == "finite"
    assert "source itself" in result.summary


def test_failed_tokenizer_check_rejects_a_right_graph(llama, reference, short_prompts):
    bad = Check(name="tokenizer", passed=False, value=1, limit=0, unit="texts", detail="'a' differs.")
    result = judge(NumpyLlama(llama), reference, short_prompts, tokenizer_check=lambda: [bad])
    assert not result.accepted
    assert "first tokenizer: 'a' differs." in result.summary


def test_a_raising_tokenizer_check_rejects(llama, reference, short_prompts):
    def missing():
        raise FileNotFoundError("tokenizer.json")

    result = judge(NumpyLlama(llama), reference, short_prompts, tokenizer_check=missing)
    assert "FileNotFoundError: tokenizer.json" in result.first_failure.detail


def test_the_layer_is_asked_for_with_the_tokens_of_the_first_failure(llama, reference, short_prompts):
    requests = []

    def locate(tokens):
        requests.append(tokens)
        return "Layer 1 differs."

    result = judge(NumpyLlama(llama, "rotary-base"), reference, short_prompts, locate=locate)
    assert [len(tokens) for tokens in requests] == [2]
    assert result.summary.endswith("Layer 1 differs.")


def test_a_failing_search_for_the_layer_does_not_hide_the_failure(llama, reference, short_prompts):
    def locate(tokens):
        raise OSError("gone")

    result = judge(NumpyLlama(llama, "nan"), reference, short_prompts, locate=locate)
    assert result.first_failure.name == "finite"
    assert "OSError: gone" in result.where


def test_a_cache_fault_asks_for_no_layer(llama, reference, short_prompts):
    result = judge(NumpyLlama(llama, "cache-off-by-one"), reference, short_prompts, locate=lambda tokens: "Layer 0.")
    assert result.where is None


def test_result_is_json_even_with_nan(llama, reference, short_prompts):
    result = judge(NumpyLlama(llama, "nan"), reference, short_prompts)
    data = json.loads(json.dumps(result.to_dict(), allow_nan=False))
    assert data["accepted"] is False
    assert data["checks"][2]["value"] == "nan"
    assert set(data) == {"accepted", "reference", "where", "checks"}


def test_recurrent_plan_asks_for_no_rewind(llama, reference, short_prompts):
    result = judge(NumpyLlama(llama, "rewind-ignored"), reference, replace(short_prompts, rewinds=False))
    assert result.accepted
    assert "rewind" not in [check.name for check in result.checks]


@pytest.mark.parametrize("positions", [8, 16, 50])
def test_a_short_model_gets_a_shorter_plan(positions, llama, reference):
    result = judge(NumpyLlama(llama), reference, gate_prompts(None, VOCAB, positions))
    assert result.accepted, result.summary
    faulty = judge(NumpyLlama(llama, "no-causal-mask"), reference, gate_prompts(None, VOCAB, positions))
    assert not faulty.accepted


def test_nothing_longer_than_the_model_is_ever_fed(llama, reference):
    class Watched(NumpyLlama):
        longest = 0

        def new_state(self, batch, capacity):
            self.longest = max(self.longest, capacity)
            return super().new_state(batch, capacity)

    for positions in (8, 9, 31, 64):
        candidate = Watched(llama)
        judge(candidate, reference, gate_prompts(None, VOCAB, positions))
        assert candidate.longest <= positions


def test_logits_beyond_the_memory_set_aside_are_still_covered(llama, reference, prompts, monkeypatch):
    limit = 50 * 4 * VOCAB  # 50 rows
    for module in ("exam", "prefill", "cache"):
        monkeypatch.setattr(f"jisu.exporter.gate.{module}.SEGMENT_BYTES", limit)
    result = judge(NumpyLlama(llama), reference, prompts)
    assert result.accepted, result.summary
    details = {check.name: check.detail for check in result.checks}
    assert details["prefill-300"].startswith("1 of 300 positions")
    assert details["chunked-prefill"] == "7 chunks of 50, 1, 50, 50, 50, 50, 49 tokens."
    assert not judge(NumpyLlama(llama, "short-table"), reference, prompts).accepted


def test_the_reference_runs_each_sequence_once(llama, reference, prompts):
    class Counting:
        vocab_size = VOCAB
        description = "counting"
        runs = 0

        def logits(self, token_ids, positions=None):
            Counting.runs += 1
            return reference.logits(token_ids, positions)

    assert judge(NumpyLlama(llama), Counting(), prompts).accepted
    # The long sequence, three rows, three greedy continuations.
    assert Counting.runs == 7


def test_progress_is_a_share_of_the_time_and_never_goes_back():
    seen = []
    report = gate_run._shared(lambda *report: seen.append(report), ["prefill-1", "quality", "rewind"])
    report("prefill-1", 0, 1)
    report("quality", 0, 1)
    report("quality", 5, 10)
    report("rewind", 0, 1)
    report("of no step", 0, 1)
    assert [name for name, _, _ in seen] == ["prefill-1", "quality", "quality", "rewind"]
    assert [done for _, done, _ in seen] == [0, 1, 126, 252]
    assert {total for _, _, total in seen} == {253}
