from __future__ import annotations

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.tracing.one_pass import OnePass, trace_one_pass
from tests.exporter.passes.draft import operators, run
from tests.support.models import PAD, classifier_config, random_model


def traced(family, *, limit=512, **changes):
    model = random_model(classifier_config(family, **changes), classifies=True).eval()
    return model, trace_one_pass(OnePass(model), columns=3, max_positions=limit)


def padded(*lengths, seed=0):
    ids = np.random.default_rng(seed).integers(3, 380, (len(lengths), max(lengths)))
    mask = (np.arange(max(lengths)) < np.array(lengths)[:, None]).astype(np.int64)
    return np.where(mask, ids, PAD), mask


def largest_error(model, graph):
    """Over texts of several lengths alone and a padded batch, in standard deviations of the logits."""
    errors = []
    for lengths in ((1,), (2,), (7, 12, 4)):
        ids, mask = padded(*lengths)
        with torch.no_grad():
            truth = model(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask)).logits.numpy()
        actual = run(graph, {"input_ids": ids, "attention_mask": mask})["logits"]
        errors.append(np.abs(actual - truth).max() / truth.std())
    return max(errors)


@pytest.mark.parametrize(
    ("family", "attentions"),
    [("Bert", 3), ("Roberta", 3), ("Qwen2", 3), ("MPNet", 0)],
)
def test_a_graph_gives_the_logits_of_its_source(family, attentions):
    model, graph = traced(family)
    assert [value.name for value in graph.graph.inputs] == ["input_ids", "attention_mask"]
    assert [str(value.shape) for value in graph.graph.outputs] == ["[B,3]"]
    assert operators(graph)["Attention"] == attentions
    assert graph.graph.outputs[0].dtype == ir.DataType.FLOAT
    assert model.config._attn_implementation in ("sdpa", "eager")
    assert largest_error(model, graph) < 1e-4


def test_experts_multiply_the_tokens_that_are_sent_to_them():
    model, graph = traced("Mixtral", num_local_experts=4, num_experts_per_tok=2, num_hidden_layers=2)
    assert operators(graph)["Split"] + operators(graph)["Slice"] > 0
    assert getattr(model.config, "_experts_implementation", None) != "jisu"
    assert largest_error(model, graph) < 1e-4


def test_equal_layers_are_traced_twice_and_copied(monkeypatch):
    from jisu.exporter.tracing import one_pass

    copied = []
    stamp = one_pass.stamp_layers
    monkeypatch.setattr(one_pass, "stamp_layers", lambda *a, **o: copied.append(stamp(*a, **o)) or copied[-1])
    model, graph = traced("Bert", num_hidden_layers=4)
    assert len(copied[0]) == 4
    assert "bert.encoder.layer.3.output.dense.weight" in graph.graph.initializers
    assert largest_error(model, graph) < 1e-4


class Bag(nn.Module):
    """The mean of what tokens mean, as a user might write it."""

    def __init__(self):
        super().__init__()
        self.table = nn.Embedding(384, 16)
        self.head = nn.Linear(16, 3)

    def forward(self, ids):
        return self.head(self.table(ids).mean(1))


class Deaf(Bag):
    def forward(self, ids, attention_mask):
        return super().forward(ids)


class Counting(Bag):
    def forward(self, ids):
        return super().forward(ids) * float(ids.shape[1])


class Talking(Bag):
    def forward(self, ids):
        return self.head(self.table(ids))


def test_a_module_without_a_mask_has_one_input():
    module = Bag().eval()
    graph = trace_one_pass(OnePass(module), columns=3)
    assert [value.name for value in graph.graph.inputs] == ["input_ids"]
    assert set(graph.graph.initializers) >= {"table.weight", "head.weight"}
    for rows, tokens in ((1, 1), (3, 9)):
        ids = torch.randint(0, 384, (rows, tokens))
        actual = run(graph, {"input_ids": ids.numpy()})["logits"]
        np.testing.assert_allclose(actual, module(ids).detach().numpy(), atol=1e-6)


@pytest.mark.parametrize(
    ("module", "message"),
    [
        (Deaf, "lost an input. Received: nothing reads attention_mask"),
        (Counting, "The trace of Counting works for a few numbers of rows or tokens only"),
        (Talking, "Talking does not give what a model for text-classification gives. Received: logits of 3 dims"),
    ],
)
def test_what_cannot_be_traced_is_refused_with_the_reason(module, message):
    with pytest.raises(InputError, match=message):
        trace_one_pass(OnePass(module().eval()), columns=3)


def test_a_label_too_few_is_refused():
    with pytest.raises(InputError, match=r"dims \['B', 3\]. Allowed: dims \['B', 2\]"):
        trace_one_pass(OnePass(Bag().eval()), columns=2)
