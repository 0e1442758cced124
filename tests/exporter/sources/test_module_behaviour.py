from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.module_behaviour import check_behaviour, find_longest
from tests.support.own_modules import POSITIONS, VOCAB, Attentive, Recurrent, Stateless, seeded


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


class Masked(Stateless):
    """Holds as many tokens as its buffer, as a mask or a table of waves in a buffer does."""

    def __init__(self, length=700):
        super().__init__()
        self.register_buffer("waves", torch.randn(length, 32), persistent=False)

    def forward(self, tokens):
        hidden = self.embedding(tokens) + self.waves[: tokens.shape[1]]
        return self.output(self.layers(hidden)[0])


def test_the_most_tokens_that_a_module_takes_are_found_by_trying():
    assert find_longest(seeded(Masked).eval()) == 700
    assert find_longest(seeded(Masked, length=20).eval()) == 20
    assert find_longest(seeded(Stateless).eval()) is None


class Counting(nn.Module):
    """Fails beyond 700 tokens, is slow, and says how many tokens it was asked for."""

    def __init__(self, parameters=1):
        super().__init__()
        self.weight = nn.Parameter(torch.ones(parameters))
        self.requests = []

    def forward(self, tokens):
        self.requests.append(tokens.shape[1])
        if tokens.shape[1] > 700:
            raise ValueError("too long")
        return torch.zeros(*tokens.shape, 5)


def test_what_is_found_depends_on_the_module_and_on_no_clock(monkeypatch):
    import time

    clock = iter(range(0, 10**6, 1000))
    monkeypatch.setattr(time, "perf_counter", lambda: next(clock))
    assert find_longest(Counting()) == 700


def test_a_module_of_very_many_parameters_is_asked_for_little():
    module = Counting()
    module.weight.numel = lambda: 10**9
    assert find_longest(module) is None
    assert max(module.requests) < 700


@pytest.mark.parametrize(
    "error", [MemoryError(), RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried")]
)
def test_memory_that_is_missing_is_no_limit_of_the_module(error):
    class Large(Counting):
        def forward(self, tokens):
            if tokens.shape[1] > 400:
                raise error
            return super().forward(tokens)

    with pytest.raises(MemoryError):
        find_longest(Large())


def test_a_table_is_one_of_positions_only_when_it_sets_a_limit():
    module = seeded(Attentive).eval()
    assert find_longest(module, [POSITIONS]) == POSITIONS
    assert find_longest(seeded(Stateless).eval(), [33]) is None


def test_logits_that_are_not_finite_are_said_to_be():
    module = seeded(Stateless)
    module.output.bias.data[3] = float("nan")
    with pytest.raises(InputError, match="not finite"):
        check(module)


def test_what_a_module_keeps_can_still_be_trained():
    class Keeping(Stateless):
        def forward(self, tokens):
            if not hasattr(self, "kept"):
                self.kept = torch.ones(32)
            return self.output(self.layers(self.embedding(tokens))[0] * self.kept)

    module = seeded(Keeping)
    check(module)
    module.train()(torch.ones(1, 3, dtype=torch.int64)).sum().backward()


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
        logits = super().forward(tokens)
        return logits + torch.randn_like(logits)  # a single number is drawn twice alike once in some hundred times


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
