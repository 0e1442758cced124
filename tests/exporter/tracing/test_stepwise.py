"""Modules that are right for one token at a time are found, traced that way, and run that way."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from jisu.calibration.model.whole_sequences import empty_state
from jisu.exporter.contract.errors import InputError
from jisu.exporter.passes.select_logits import ONE_TOKEN, count_places, note
from jisu.exporter.tracing.stepwise import takes_several_tokens
from jisu.exporter.tracing.trace import trace
from tests.exporter.tracing.calls import on_graph, tokens

HIDDEN, VOCABULARY = 6, 10


class Recurrent(nn.Module):
    """h <- tanh(h W + x), by a rule over the tokens."""

    def __init__(self, rule):
        super().__init__()
        torch.manual_seed(0)
        self.embedding, self.inner = nn.Embedding(VOCABULARY, HIDDEN), nn.Linear(HIDDEN, HIDDEN)
        self.head = nn.Linear(HIDDEN, VOCABULARY)
        self.rule = rule

    def state_spec(self):
        return [("0.h", "recurrent", ("B", HIDDEN), "float32")]

    def _positions(self, past_length, input_ids):
        return (past_length[:, None] + torch.arange(input_ids.shape[1]))[:, :, None] * 0.01

    def forward(self, input_ids, past_length, state):
        hidden, last = self.rule(self, self.embedding(input_ids) + self._positions(past_length, input_ids), state[0])
        return self.head(hidden), [last]


def loop(self, embedded, hidden):
    actual = []
    for place in range(embedded.shape[1]):
        hidden = torch.tanh(self.inner(hidden) + embedded[:, place])
        actual.append(hidden)
    return torch.stack(actual, 1), hidden


def only_one(self, embedded, hidden):
    assert embedded.shape[1] == 1, "one token, please"
    return loop(self, embedded, hidden)


def begins_anew(self, embedded, hidden):
    """Right for one token; several begin with an empty state, as some scans do."""
    return loop(self, embedded, hidden if embedded.shape[1] == 1 else torch.zeros_like(hidden))


def in_blocks(self, embedded, hidden):
    """Tokens are filled up to blocks of four."""
    length = embedded.shape[1]
    filled = nn.functional.pad(embedded, (0, 0, 0, -length % 4)).cumsum(1)[:, :length]
    return filled + hidden[:, None], hidden + embedded.sum(1)


def linear(self, embedded, hidden):
    """A state that is a plain sum needs no loop."""
    return embedded.cumsum(1) + hidden[:, None], hidden + embedded.sum(1)


@pytest.mark.parametrize(
    ("rule", "several"), [(loop, True), (only_one, False), (begins_anew, False), (in_blocks, False), (linear, True)]
)
def test_what_takes_several_tokens_is_found_by_running_it(rule, several):
    """A short loop takes them, too; that it cannot be traced for any number of them is for the trace to find."""
    module = Recurrent(rule).eval()
    assert takes_several_tokens(module, module.state_spec()) is several


@pytest.mark.parametrize("rule", [loop, only_one, begins_anew])
def test_a_loop_is_traced_for_one_token_and_right_for_rows_of_any_past(rule):
    module = Recurrent(rule).eval()
    graph = trace(module, module.state_spec())
    assert [dim if isinstance(dim, int) else str(dim.value) for dim in graph.graph.inputs[0].shape] == ["B", 1]
    assert count_places(graph.graph) == 0
    assert note(graph.graph) == ONE_TOKEN
    for batch in (1, 3):
        ids, state = tokens(batch, 4, vocab=VOCABULARY), empty_state(module.state_spec(), batch=batch, capacity=1)
        ours = [tensor.numpy() for tensor in state]
        for place in range(4):
            past = [place + 5 * row for row in range(batch)]
            with torch.inference_mode():
                logits, state = module(ids[:, place : place + 1], torch.tensor(past), state)
            actual, ours = on_graph(graph, ids[:, place : place + 1], past, ours)
            np.testing.assert_allclose(actual, logits.numpy(), atol=1e-5)
            np.testing.assert_allclose(ours[0], state[0].numpy(), atol=1e-5)


def test_what_takes_several_tokens_is_traced_for_any_number():
    module = Recurrent(linear).eval()
    graph = trace(module, module.state_spec())
    assert [dim if isinstance(dim, int) else str(dim.value) for dim in graph.graph.inputs[0].shape] == ["B", "T"]
    assert count_places(graph.graph) == 1
    assert note(graph.graph) is None


def test_keys_in_a_module_that_loops_over_its_tokens_are_traced_for_one_token():
    class Loops(nn.Module):
        def __init__(self):
            super().__init__()
            self.embedding = nn.Embedding(VOCABULARY, HIDDEN)

        def state_spec(self):
            return [("0.key", "kv", ("B", 1, "capacity", HIDDEN), "float32")]

        def forward(self, input_ids, past_length, state):
            hidden, buffer, actual = self.embedding(input_ids), state[0], []
            for place in range(int(input_ids.shape[1])):
                at = (torch.arange(buffer.shape[2])[None] == (past_length + place)[:, None])[:, None, :, None]
                buffer = torch.where(at, hidden[:, None, place : place + 1], buffer)
                actual.append(buffer.sum((1, 2)))
            return torch.stack(actual, 1), [buffer]

    module = Loops().eval()
    graph = trace(module, module.state_spec())
    assert graph.graph.inputs[0].shape[1] == 1
    state, ids = [torch.randn(2, 1, 5, HIDDEN)], tokens(2, 1, vocab=VOCABULARY)
    with torch.inference_mode():
        logits, _ = module(ids, torch.tensor([1, 3]), state)
    np.testing.assert_allclose(on_graph(graph, ids, [1, 3], state)[0], logits.numpy(), atol=1e-5)


def test_a_module_that_no_trace_can_follow_is_refused_with_the_first_reason():
    def data_dependent(self, embedded, hidden):
        return linear(self, embedded if embedded.sum() > 0 else embedded + 1, hidden)

    module = Recurrent(data_dependent).eval()
    with pytest.raises(InputError, match="cannot be traced"):
        trace(module, module.state_spec())
