from __future__ import annotations

import importlib.util
from types import SimpleNamespace

import pytest

from jisu.benchmarks.lm_eval.continuations import score_continuations
from jisu.benchmarks.lm_eval.model import main, register

needs_lm_eval = pytest.mark.skipif(
    importlib.util.find_spec("lm_eval") is None, reason="lm-eval is not installed: pip install 'jisu[lm-eval]'"
)


def requests(*arguments):
    return [SimpleNamespace(args=item) for item in arguments]


@pytest.fixture(scope="module")
def model(tiny):
    from lm_eval.api.registry import get_model

    register()
    return get_model("jisu").create_from_arg_string(f"artifact={tiny.fp32},threads=1", {"batch_size": 2})


@needs_lm_eval
def test_log_likelihoods_are_the_engines_own_and_batches_change_nothing(model):
    pairs = [("The capital of France is", " Paris"), ("The dog", " does not mind."), ("", "A word")]
    together = model.loglikelihood(requests(*pairs), disable_tqdm=True)
    alone = [model.loglikelihood(requests(pair), disable_tqdm=True)[0] for pair in pairs]
    assert [value for value, _ in together] == pytest.approx([value for value, _ in alone], abs=1e-4)
    ids = model._engine.tokenize("The dog does not mind.")
    context = model._engine.tokenize("The dog")
    expected = score_continuations(model._engine, [(context, ids[len(context) :])])[0]
    assert together[1] == pytest.approx(expected)


@needs_lm_eval
def test_a_text_longer_than_the_model_has_a_log_likelihood(model):
    long = "The quick brown fox jumps over the lazy dog. " * 60
    short = "The quick brown fox."
    actual = model.loglikelihood_rolling(requests((long,), (short,)))
    assert actual[0] < 10 * actual[1] < 0


@needs_lm_eval
def test_answers_come_in_order_and_end_at_what_was_named(model):
    options = {"until": ["\n"], "max_gen_toks": 6}
    actual = model.generate_until(
        requests(("The dog", options), ("A", options), ("The fox", {"max_gen_toks": 3}), ("The dog", options))
    )
    assert len(actual) == 4
    assert actual[0] == actual[3]
    assert all("\n" not in actual[index] for index in (0, 1, 3))


@pytest.mark.skipif(importlib.util.find_spec("lm_eval") is not None, reason="lm-eval is installed")
def test_without_the_package_the_install_line_is_said(capsys):
    assert main() == 2
    assert "pip install 'jisu[lm-eval]'" in capsys.readouterr().err
