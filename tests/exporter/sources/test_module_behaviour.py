from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from exporter.errors import InputError
from exporter.sources.module_behaviour import check_behaviour
from tests.own_modules import POSITIONS, VOCAB, Attentive, Recurrent, Stateless, seeded


def check(module, **options):
    settings = {"vocab_size": VOCAB, "max_positions": None, "generates": True, **options}
    check_behaviour(module.eval(), **settings)


@pytest.mark.parametrize("module_class", [Recurrent, Stateless, partial(Recurrent, nn.GRU)])
def test_a_module_that_keeps_its_promises_passes(module_class):
    check(seeded(module_class))


def test_a_module_of_few_positions_is_never_asked_for_more():
    check(seeded(Attentive), max_positions=POSITIONS)


def test_a_module_that_takes_no_long_text_is_told_how_to_say_so():
    with pytest.raises(InputError, match=r"fails on 1 row of 332 tokens.*attribute max_positions"):
        check(seeded(Short))


class Short(Stateless):
    def forward(self, tokens):
        if tokens.shape[1] > 100:
            raise IndexError("index out of range")
        return super().forward(tokens)


class Forgetful(Recurrent):
    def forward(self, input_ids, past_length, state):
        logits, _ = super().forward(input_ids, past_length, state)
        return logits, state


class Drawn(Stateless):
    def forward(self, tokens):
        return super().forward(tokens) + torch.randn(1)


FAULTS = {
    "looks at later tokens": (partial(Stateless, bidirectional=True), "bidirectional"),
    "mixes the rows of a batch": (partial(Stateless, batch_first=False), "batch_first=True"),
    "its state does not hold what came before": (Forgetful, "Return in the state"),
    "its output is random": (Drawn, "Switch off"),
}


@pytest.mark.parametrize("said", FAULTS)
def test_a_module_that_breaks_a_promise_is_told_which_and_what_to_do(said):
    module_class, fix = FAULTS[said]
    with pytest.raises(InputError, match=said) as caught:
        check(seeded(module_class))
    assert fix in str(caught.value)


def test_a_classifier_may_look_at_all_tokens():
    class Pooled(Stateless):
        def forward(self, tokens):
            return super().forward(tokens).mean(1)

    check(seeded(Pooled, bidirectional=True), generates=False)
