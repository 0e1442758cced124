"""Walking the layers gives the model's own logits, bit for bit; where it does not, the model is asked as before."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import jisu
from jisu.exporter.gate.layered_reference import LayeredReference, in_layers, walking
from jisu.exporter.gate.reference import TorchReference
from jisu.exporter.sources import load_source, paged_weights
from tests.support.models import TINY_VOCAB, llama_config, random_model, write_tiny, write_tiny_llama

SIZES: dict[str, Any] = {
    "vocab_size": TINY_VOCAB,
    "hidden_size": 32,
    "intermediate_size": 64,
    "num_hidden_layers": 4,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "max_position_embeddings": 512,
    "bos_token_id": 1,
    "eos_token_id": 1,
}


def configurations() -> dict[str, Any]:
    import transformers as t

    return {
        "llama": llama_config(),
        "gemma3 with two kinds of layers": t.Gemma3TextConfig(**SIZES, sliding_window=16, sliding_window_pattern=2),
        "gemma2 with capped logits": t.Gemma2Config(**SIZES, sliding_window=16, final_logit_softcapping=5.0),
        "mixtral": t.MixtralConfig(**{k: v for k, v in SIZES.items() if k != "head_dim"}, num_local_experts=4),
        "gpt2": t.GPT2Config(vocab_size=TINY_VOCAB, n_positions=512, n_embd=32, n_layer=3, n_head=4),
        "opt": t.OPTConfig(
            vocab_size=TINY_VOCAB, hidden_size=32, ffn_dim=64, num_hidden_layers=3, num_attention_heads=4
        ),
        "mamba": t.MambaConfig(vocab_size=TINY_VOCAB, hidden_size=32, state_size=8, num_hidden_layers=3),
        "cohere with scaled logits": t.CohereConfig(**{k: v for k, v in SIZES.items() if k != "head_dim"}),
    }


def layers_of(model: Any) -> Any:
    from jisu.exporter.sources.layers import find_layers

    stack = find_layers(model)
    assert stack is not None
    return model.get_submodule(stack.path)


def layered(model: Any) -> LayeredReference:
    return LayeredReference(TorchReference(model), layers_of(model))


def test_that_layers_can_be_walked_is_seen_on_the_first_of_each_kind(tmp_path: Path) -> None:
    from transformers import Gemma3TextConfig

    sizes = {**SIZES, "num_hidden_layers": 8}
    folder = write_tiny(tmp_path / "source", Gemma3TextConfig(**sizes, sliding_window=16, sliding_window_pattern=2))
    source = load_source(folder)
    calls: list[int] = []
    for number, layer in enumerate(layers_of(source.module)):
        layer.register_forward_hook(lambda _, args, output, number=number: calls.append(number))
    reference = walking(TorchReference(source.module), source)
    assert reference is not None
    assert set(calls) == {0, 1, 2, 3}
    tokens = np.arange(40, dtype=np.int64)
    reference.prepare([tokens])
    np.testing.assert_array_equal(reference.logits(tokens), TorchReference(source.module).logits(tokens))


@pytest.mark.parametrize("name", list(configurations()))
def test_prepared_sequences_have_the_models_own_logits(name: str) -> None:
    model = random_model(configurations()[name])
    plain, reference = TorchReference(model), layered(model)
    assert reference.walks()
    generator = np.random.default_rng(0)
    sequences = [generator.integers(0, TINY_VOCAB, length, dtype=np.int64) for length in (1, 7, 40, 130)]
    reference.prepare(sequences)
    for sequence in sequences:
        np.testing.assert_array_equal(reference.logits(sequence), plain.logits(sequence))
        rows = slice(0, len(sequence), 3)
        np.testing.assert_array_equal(reference.logits(sequence, rows), plain.logits(sequence, rows))
    other = sequences[2][:20]
    np.testing.assert_array_equal(reference.logits(other), plain.logits(other))


def test_each_layer_runs_once_for_each_sequence_however_often_it_is_asked() -> None:
    model = random_model(llama_config())
    reference = layered(model)
    assert reference.walks()
    calls: list[int] = []
    layers = layers_of(model)
    for number, layer in enumerate(layers):
        layer.mlp.register_forward_hook(lambda *_, number=number: calls.append(number))
    sequences = [np.arange(length, dtype=np.int64) for length in (5, 9)]
    reference.prepare(sequences)
    reference.prepare(sequences)
    for sequence in sequences:
        reference.logits(sequence)
        reference.logits(sequence, slice(1, 3))
    assert calls == [number for number in range(len(layers)) for _ in sequences]
    reference.forget()
    reference.logits(sequences[0])
    assert len(calls) == 3 * len(layers)


def test_the_output_projection_is_not_read_before_logits_are_asked_for() -> None:
    model = random_model(llama_config())
    reference = layered(model)
    assert reference.walks()
    sequence = np.arange(9, dtype=np.int64)
    forward = torch.nn.Linear.forward
    read: list[Any] = []

    def seen(self: Any, hidden: torch.Tensor) -> torch.Tensor:
        read.append(self)
        return forward(self, hidden)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(torch.nn.Linear, "forward", seen)
        reference.prepare([sequence])
        assert model.lm_head not in read
        reference.logits(sequence)
        assert model.lm_head in read
    np.testing.assert_array_equal(reference.logits(sequence), TorchReference(model).logits(sequence))


class Crossing(torch.nn.Module):
    """A layer to whom the first layer hands something past its output."""

    shared: torch.Tensor | None = None

    def __init__(self, layer: torch.nn.Module, *, first: bool) -> None:
        super().__init__()
        self.layer, self.first = layer, first

    def forward(self, hidden: torch.Tensor, **named: Any) -> torch.Tensor:
        hidden = self.layer(hidden, **named)
        if self.first:
            Crossing.shared = hidden
            return hidden
        assert Crossing.shared is not None
        return hidden + Crossing.shared[:, -1:]


def test_layers_with_something_between_them_are_not_walked() -> None:
    model = random_model(llama_config())
    layers = layers_of(model)
    for number in range(len(layers)):
        layers[number] = Crossing(layers[number], first=number == 0)
    assert TorchReference(model).logits(np.arange(5, dtype=np.int64)).shape == (5, TINY_VOCAB)
    assert not layered(model).walks()


def test_layers_whose_forward_somebody_replaced_are_not_walked() -> None:
    model = random_model(llama_config())
    layer = layers_of(model)[1]
    layer.forward = layer.forward
    assert not layered(model).walks()


def test_a_module_in_memory_or_of_the_users_own_is_asked_as_before(tmp_path: Path) -> None:
    source = load_source(write_tiny_llama(tmp_path / "source"))
    reference = TorchReference(source.module)
    assert in_layers(reference, source) is reference


@pytest.mark.parametrize("precision", ["fp32", "int8"])
def test_an_export_of_paged_weights_has_the_same_figures(tmp_path: Path, precision: str) -> None:
    folder = write_tiny(tmp_path / "source", llama_config())
    expected = jisu.export(folder, tmp_path / "memory", precision=precision).manifest.gate
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paged_weights, "PAGED_FROM", 0)
        patch.setattr(paged_weights, "_SMALL", 1)
        actual = jisu.export(folder, tmp_path / "paged", precision=precision).manifest.gate
    assert "layer by layer" in actual["reference"]
    assert actual["checks"] == expected["checks"]
    assert actual.get("quality") == expected.get("quality")


@pytest.mark.parametrize("fault", ["a layer runs twice", "a layer is left out", "another sequence's states"])
def test_a_walk_that_goes_wrong_accepts_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str) -> None:
    """A wrong truth must show as a difference: it can never make a candidate right."""
    from jisu.exporter.contract.errors import GateRejectedError

    monkeypatch.setattr(paged_weights, "PAGED_FROM", 0)
    walks, prepare = LayeredReference.walks, LayeredReference.prepare

    def again(layer: Any, args: Any, named: Any, output: Any) -> Any:
        return layer.forward(output, **named)

    def left_out(layer: Any, args: Any, named: Any, output: Any) -> Any:
        return args[0]

    def wrong_from_now_on(self: LayeredReference) -> bool:
        answer = walks(self)
        if fault != "another sequence's states":
            hook = again if fault == "a layer runs twice" else left_out
            self._layers[1].register_forward_hook(hook, with_kwargs=True)
        return answer

    def crossed(self: LayeredReference, sequences: Any, *progress: Any) -> None:
        prepare(self, sequences, *progress)
        if fault == "another sequence's states" and len(sequences) > 2:
            for key, other in itertools.pairwise([key for key in self._last if len(self._last[key]) > 8]):
                self._last[key] = np.resize(self._last[other], self._last[key].shape)

    monkeypatch.setattr(LayeredReference, "walks", wrong_from_now_on)
    monkeypatch.setattr(LayeredReference, "prepare", crossed)
    folder = write_tiny(tmp_path / "source", llama_config(layers=3))
    with pytest.raises(GateRejectedError):
        jisu.export(folder, tmp_path / "out")
