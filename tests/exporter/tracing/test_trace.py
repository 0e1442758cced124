from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import onnx_ir as ir
import pytest
import torch
from torch import nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.graph.localize import LAYERS_KEY
from jisu.exporter.tracing.trace import trace
from tests.exporter.tracing.calls import empty_state, on_graph, stock_logits, tokens

# ONNX Runtime and torch sum in different orders; the logits are of size 5.
ROUNDING = 3e-5


def test_inputs_and_outputs_have_the_names_and_dims_of_the_signature(llama):
    graph = llama.graph.graph
    described = {
        value.name: [dim if isinstance(dim, int) else str(dim.value) for dim in value.shape]
        for value in (*graph.inputs, *graph.outputs)
    }
    assert described["input_ids"] == ["B", "T"]
    assert described["past_length"] == ["B"]
    assert described["logits"] == ["B", "T", 384]
    for layer in range(4):
        for role in ("key", "value"):
            assert described[f"past_key_values.{layer}.{role}"] == ["B", 2, "capacity", 16]
            assert described[f"present.{layer}.{role}"] == ["B", 2, "capacity", 16]
    assert [value.name for value in graph.inputs][2:6] == [
        "past_key_values.0.key", "past_key_values.0.value", "past_key_values.1.key", "past_key_values.1.value",
    ]  # fmt: skip


def test_the_graph_holds_standard_operators_only(llama):
    assert {node.domain for node in llama.graph.graph.all_nodes()} == {""}
    assert llama.graph.graph.opset_imports[""] == 24


@pytest.mark.parametrize(("batch", "length", "capacity"), [(1, 1, 1), (1, 2, 9), (2, 3, 7), (3, 11, 11), (1, 40, 64)])
def test_a_prefill_on_the_graph_is_the_stock_models(llama, batch, length, capacity):
    ids = tokens(batch, length, seed=length)
    logits, _ = on_graph(llama.graph, ids, [0] * batch, empty_state(llama.module, batch, capacity))
    np.testing.assert_allclose(logits, stock_logits(llama.stock, ids), atol=ROUNDING)


def test_ragged_rows_and_single_tokens_continue_on_the_graph(llama):
    ids, lengths = tokens(3, 8), [2, 6, 4]
    _, state = on_graph(llama.graph, ids[:, :6], [0, 0, 0], empty_state(llama.module, 3, 10))
    after = torch.stack([ids[row, length] for row, length in enumerate(lengths)])[:, None]
    logits, _ = on_graph(llama.graph, after, lengths, state)
    for row, length in enumerate(lengths):
        whole = stock_logits(llama.stock, ids[row : row + 1, : length + 1])
        np.testing.assert_allclose(logits[row, 0], whole[0, -1], atol=ROUNDING)


def test_stamped_layers_are_the_traced_ones(llama, llama_in_full):
    """Bit for bit: the same operators in the same order, with the same weights."""
    stamped, full = ([node.op_type for node in item.graph.graph] for item in (llama, llama_in_full))
    assert sorted(stamped) == sorted(full)
    ids, state = tokens(2, 9), empty_state(llama.module, 2, 12)
    first, first_state = on_graph(llama.graph, ids, [0, 1], state)
    second, second_state = on_graph(llama_in_full.graph, ids, [0, 1], state)
    np.testing.assert_array_equal(first, second)
    for one, other in zip(first_state, second_state, strict=True):
        np.testing.assert_array_equal(one, other)
    assert set(llama.graph.graph.initializers) >= {f"model.layers.{n}.self_attn.q_proj.weight" for n in range(4)}


def test_parameters_have_the_names_of_the_checkpoint(llama):
    held = {name for name in llama.graph.graph.initializers if name.startswith(("model.", "lm_head."))}
    tied = {"lm_head.weight", "model.embed_tokens.weight"}
    assert set(llama.stock.state_dict()) - tied <= held
    assert len(tied & held) == 1  # one tensor, under one of its names


def test_weights_are_shared_with_the_module(llama):
    held = llama.graph.graph.initializers
    for name, parameter in llama.stock.named_parameters():
        value = held[name] if name in held else held["lm_head.weight"]
        assert np.shares_memory(value.const_value.numpy(), parameter.detach().numpy()), name


def test_the_hidden_states_of_each_layer_are_listed(llama):
    names = json.loads(llama.graph.graph.metadata_props[LAYERS_KEY])
    produced = {value.name: value for node in llama.graph.graph for value in node.outputs}
    assert len(names) == 4
    assert [[str(d) for d in produced[name].shape] for name in names] == [["B", "T", "64"]] * 4


def test_nothing_of_this_machine_is_in_the_graph(llama):
    text = ir.serde.serialize_model(llama.graph).SerializeToString()
    for word in (str(Path.home()), str(Path(torch.__file__).parent), "site-packages", ".py", "stack_trace"):
        assert word.encode() not in text, word


def test_the_models_own_attention_is_back_after_tracing(llama):
    assert llama.stock.config._attn_implementation == "sdpa"


class Small(nn.Module):
    """The traced interface around a rule for the state; ``layers`` of it change the hidden states."""

    def __init__(self, layers=4, rule=None):
        super().__init__()
        torch.manual_seed(0)
        self.embedding = nn.Embedding(10, 4)
        self.layers = nn.ModuleList(nn.Linear(4, 4) for _ in range(layers))
        self.rule = rule

    def state_spec(self):
        return [(f"{number}.key", "kv", ("B", 1, "capacity", 4), "float32") for number in range(len(self.layers))]

    def forward(self, input_ids, past_length, state):
        hidden = self.embedding(input_ids) + past_length[:, None, None]
        return self.rule(self, hidden, input_ids, state)


def plain(self, hidden, input_ids, state):
    for layer in self.layers:
        hidden = hidden + layer(hidden)
    return hidden, [buffer + 1.0 for buffer in state]


def fallback(rule, layers=4):
    """Trace a model whose layers do not repeat, and compare all of it with the module."""
    module = Small(layers, rule).eval()
    spec = module.state_spec()
    graph = trace(module, spec)
    ids, past = tokens(2, 5, vocab=10), [1, 4]
    state = [torch.randn(2, 1, 7, 4) for _ in spec]
    with torch.inference_mode():
        logits, after = module(ids, torch.tensor(past), state)
    actual, found_state = on_graph(graph, ids, past, state)
    np.testing.assert_allclose(actual, logits.numpy(), atol=1e-5)
    for one, other in zip(found_state, after, strict=True):
        np.testing.assert_allclose(one, other.numpy(), atol=1e-5)
    return graph


def two_values(self, hidden, input_ids, state):
    other = hidden
    for layer in self.layers:
        hidden, other = hidden + layer(other), layer(hidden)
    return hidden + other, [buffer + 1.0 for buffer in state]


def counted(self, hidden, input_ids, state):
    for number, layer in enumerate(self.layers):
        hidden = hidden + layer(hidden) / (number + 1)
    return hidden, [buffer + 1.0 for buffer in state]


def backwards(self, hidden, input_ids, state):
    """The state is written outside the layers, which therefore have none of their own to copy."""
    for layer in reversed(self.layers):
        hidden = hidden + layer(hidden)
    return hidden, [buffer * 2.0 for buffer in state]


@pytest.mark.parametrize("rule", [plain, two_values, counted, backwards])
def test_layers_that_cannot_be_repeated_are_traced_one_by_one(rule):
    fallback(rule)


class Splitting(nn.Module):
    """A layer whose hidden states are split, which torch's exporter leaves without a record of where it belongs."""

    def __init__(self):
        super().__init__()
        self.both, self.back = nn.Linear(4, 8), nn.Linear(4, 4)

    def forward(self, hidden, buffer):
        gate, up = self.both(hidden).chunk(2, dim=-1)
        return hidden + self.back(torch.sigmoid(gate) * up), buffer + hidden.sum()


class OfLayers(Small):
    """Layers that each take the hidden states and a state of their own."""

    def __init__(self, layers):
        super().__init__(len(layers))
        self.layers = nn.ModuleList(layers)

    def forward(self, input_ids, past_length, state):
        hidden, after = self.embedding(input_ids) + past_length[:, None, None], []
        for layer, buffer in zip(self.layers, state, strict=False):
            hidden, buffer = layer(hidden, buffer)
            after.append(buffer)
        return hidden * 2.0, after  # the last layer's hidden states are no output of the graph, as behind a norm


def test_layers_that_split_their_hidden_states_are_repeated(caplog):
    torch.manual_seed(1)
    module = OfLayers([Splitting() for _ in range(4)]).eval()
    with caplog.at_level("INFO", logger="jisu.exporter.tracing.trace"):
        graph = trace(module, module.state_spec())
    assert "Tracing every layer" not in caplog.text
    assert sum(node.op_type == "Split" for node in graph.graph) == 4
    ids, state = tokens(2, 5, vocab=10), [torch.randn(2, 1, 7, 4) for _ in range(4)]
    with torch.inference_mode():
        logits, _ = module(ids, torch.tensor([1, 4]), state)
    np.testing.assert_allclose(on_graph(graph, ids, [1, 4], state)[0], logits.numpy(), rtol=1e-4, atol=1e-4)


class Stateful(nn.Module):
    """A layer with a number in its arithmetic that no setting shows."""

    def __init__(self, number):
        super().__init__()
        self.linear = nn.Linear(4, 4)
        self._number = number

    def forward(self, hidden, buffer):
        return hidden + self.linear(hidden) * (1 + self._number), buffer + hidden.sum()


def test_a_hidden_constant_that_counts_layers_is_found_by_comparing():
    module = OfLayers([Stateful(number) for number in range(4)]).eval()
    graph = trace(module, module.state_spec())
    ids, state = tokens(2, 5, vocab=10), [torch.randn(2, 1, 7, 4) for _ in range(4)]
    with torch.inference_mode():
        logits, _ = module(ids, torch.tensor([1, 4]), state)
    np.testing.assert_allclose(on_graph(graph, ids, [1, 4], state)[0], logits.numpy(), rtol=1e-4, atol=1e-4)


def frozen(self, hidden, input_ids, state):
    return hidden.reshape(-1, 4)[:6].reshape(2, 3, 4), [buffer + 1.0 for buffer in state]


def branching(self, hidden, input_ids, state):
    if hidden.sum() > 0:
        hidden = hidden + 1
    return hidden, [buffer + 1.0 for buffer in state]


def forgetful(self, hidden, input_ids, state):
    return hidden, [buffer + 1.0 for buffer in state[1:]]


@pytest.mark.parametrize(
    ("rule", "said"),
    [
        (frozen, "froze|cannot be traced"),
        (branching, r"in test_trace.py, line \d+: if hidden.sum\(\) > 0:"),
        (forgetful, "lost a tensor"),
    ],
)
def test_what_cannot_be_traced_is_refused_in_one_sentence(rule, said):
    module = Small(1, rule).eval()
    with pytest.raises(InputError, match=said) as caught:
        trace(module, module.state_spec())
    text = str(caught.value)
    assert "\n" not in text
    assert "\x1b" not in text
    assert caught.value.exit_code == 2


def test_a_state_that_is_handed_through_stays_an_output():
    module = Small(1, lambda self, hidden, ids, state: (hidden, list(state))).eval()
    graph = trace(module, module.state_spec())
    assert [value.name for value in graph.graph.outputs] == ["logits", "present.0.key"]
    state = [torch.randn(2, 1, 7, 4)]
    np.testing.assert_array_equal(on_graph(graph, tokens(2, 5, vocab=10), [1, 4], state)[1][0], state[0].numpy())


def test_a_model_that_cannot_be_traced_prints_nothing_but_the_error(tmp_path, capfd):
    import jisu
    from tests.support.models import write_tiny_llama

    rotary = {"rope_type": "dynamic", "rope_theta": 10000.0, "factor": 2.0}
    source = write_tiny_llama(tmp_path / "source", rope_parameters=rotary)
    assert jisu.main(["export", str(source), "--out", str(tmp_path / "out"), "--quiet"]) == 2
    actual = capfd.readouterr()
    assert actual.out == ""
    assert actual.err.startswith("jisu export: error: LlamaForCausalLM cannot be traced")
    assert len(actual.err.splitlines()) == 1
