from __future__ import annotations

import pytest
from torch import nn

from jisu.exporter.sources.layer_stack import find_stack
from tests.support.models import llama_config, random_model
from tests.support.own_modules import Attentive, Recurrent, Stateless, seeded


class Backwards(Attentive):
    """Its list of layers says nothing of the order in which they run."""

    def forward(self, input_ids, past_length, state):
        blocks, own = self.blocks, self.blocks
        self.blocks = nn.ModuleList(reversed(list(blocks)))
        try:
            return super().forward(input_ids, past_length, state)
        finally:
            self.blocks = own


class Beside(Stateless):
    """Its list holds alternatives, all of one input."""

    def __init__(self):
        super().__init__()
        self.experts = nn.ModuleList(nn.Linear(32, 32) for _ in range(3))

    def forward(self, tokens):
        hidden = self.layers(self.embedding(tokens))[0]
        return self.output(sum(expert(hidden) for expert in self.experts))


def test_layers_that_run_one_after_another_are_a_stack():
    assert find_stack(seeded(Attentive)).path == "blocks"
    assert find_stack(random_model(llama_config())).path == "model.layers"


@pytest.mark.parametrize("module_class", [Recurrent, Backwards, Beside])
def test_no_other_layers_are(module_class):
    assert find_stack(seeded(module_class)) is None
