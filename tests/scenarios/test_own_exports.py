"""Modules of the user's own, from their class to tokens: exported, verified, and run on every backend."""

from __future__ import annotations

from functools import partial

import pytest
import torch
from torch import nn

import jisu
from jisu.exporter import export, verify
from jisu.exporter.contract.errors import GateRejectedError, InputError
from jisu.runtimes import load
from tests.support.models import tiny_tokenizer
from tests.support.own_modules import Attentive, Recurrent, Stateless, seeded

PROMPTS = [[5, 6, 7], [9] * 20, [11]]
MODULES = {"recurrent": Recurrent, "kv": Attentive, "stateless": Stateless, "gru": partial(Recurrent, nn.GRU)}


def tokens_of(engine, prompts=PROMPTS):
    return [result.token_ids for result in engine.generate_ids(prompts, max_new_tokens=10, ignore_eos=True)]


@pytest.mark.parametrize("kind", MODULES)
def test_a_module_is_exported_verified_and_run_everywhere(kind, tmp_path):
    module = seeded(MODULES[kind])
    artifact = export(module, tokenizer=tiny_tokenizer(), out=tmp_path / "out")
    requests = {check["name"] for check in artifact.manifest.gate["checks"]}
    assert {"prefill-300", "batch-3", "decode", "chunked-prefill", "greedy", "tokenizer"} <= requests
    assert ("rewind" in requests) == (kind in ("kv", "stateless"))
    with load(tmp_path / "out") as engine, load(tmp_path / "out", backend="torch", source=module) as source:
        actual = tokens_of(engine)
        assert actual == tokens_of(source)
        assert actual == [tokens_of(engine, [prompt])[0] for prompt in PROMPTS]
        assert engine.generate("The fox", max_new_tokens=4).text == source.generate("The fox", max_new_tokens=4).text
    assert verify(tmp_path / "out", source=module, tokenizer=tiny_tokenizer()).accepted


PRECISIONS = [
    ("recurrent", "ort-cpu", "int8"),
    ("recurrent", "portable", "int8"),
    ("recurrent", "ort-cpu", "fp16"),
    ("recurrent", "portable", "fp16"),
    ("gru", "ort-cpu", "int4"),
    ("kv", "ort-cpu", "int4"),
    ("kv", "portable", "w8a8"),
    ("stateless", "ort-cpu", "int8"),
]


@pytest.mark.parametrize(("kind", "target", "precision"), PRECISIONS)
def test_a_module_is_quantized_like_any_other_model(kind, target, precision, tmp_path):
    module = seeded(MODULES[kind])
    # Random weights are sharper than any trained model's, and small ones have little to average over.
    limits = {"max_kl": 0.5, "min_top1": 0.5, "max_perplexity_ratio": 2.0} if precision == "int4" else {}
    artifact = export(
        module, tokenizer=tiny_tokenizer(), out=tmp_path / "out", target=target, precision=precision, **limits
    )
    (stored,) = (check for check in artifact.manifest.gate["checks"] if check["name"] == "stored-weights")
    assert stored["passed"] is True
    whole = sum(4 * parameter.numel() for parameter in module.parameters())
    assert artifact.manifest.files["model.onnx.data"].size < 0.62 * whole


def test_what_is_chosen_layer_by_layer_needs_a_stack_of_layers(tmp_path):
    with pytest.raises(InputError, match="no nn.ModuleList of layers"):
        export(seeded(Recurrent), tokenizer=tiny_tokenizer(), out=tmp_path / "out", precision="w8a8-dynamic")


def test_a_module_that_is_being_trained_goes_on_in_its_mode(tmp_path):
    module = seeded(Recurrent).train()
    export(module, out=tmp_path / "out")
    assert module.training
    assert module.layers.training


def test_another_module_is_not_the_source(tmp_path):
    module = seeded(Recurrent)
    export(module, out=tmp_path / "out")
    module.output.bias.data += 1
    with pytest.raises(InputError, match="other hashes"):
        load(tmp_path / "out", backend="torch", source=module)
    with pytest.raises(InputError, match="Name it with --source"):
        load(tmp_path / "out", backend="torch")
    module.output.bias.data[3] += 5
    assert not verify(tmp_path / "out", source=module).accepted


class Slow(Recurrent):
    """Right for its first hundred tokens, which a short look finds nothing wrong with."""

    def forward(self, input_ids, past_length, state):
        logits, after = super().forward(input_ids, past_length, state)
        return logits + (past_length > 100).float()[:, None, None] * logits.flip(-1), after


def test_a_state_that_goes_wrong_later_is_found_by_the_gate(tmp_path):
    with pytest.raises(GateRejectedError, match="decode"):
        export(seeded(Slow), out=tmp_path / "out")


class Skipping(Attentive):
    """Its layers are alike, and what passes between them is not the same everywhere."""

    def __init__(self, depth=5):
        super().__init__(depth)

    def forward(self, input_ids, past_length, state):
        kept = self.blocks[3].register_forward_pre_hook(lambda _, inputs: (inputs[0] * 1.2, *inputs[1:]))
        try:
            return super().forward(input_ids, past_length, state)
        finally:
            kept.remove()


def test_layers_that_only_look_alike_are_traced_one_by_one(tmp_path):
    """In 8 bits too, whose budget would hide what is missing."""
    module = seeded(Skipping)
    artifact = export(module, out=tmp_path / "out", precision="int8", min_top1=0.8)
    with load(artifact.folder) as engine:
        ids = [[5, 6, 7, 8, 9, 10]]
        scores = engine.score(ids)[0].logprobs
    module.forward = super(Skipping, module).forward
    export(module, out=tmp_path / "other", precision="int8", min_top1=0.8)
    with load(tmp_path / "other") as engine:
        assert abs(engine.score(ids)[0].logprobs - scores).max() > 0.05


def test_a_number_among_the_state_is_carried(tmp_path):
    class Counting(Recurrent):
        def state_spec(self):
            return [*super().state_spec(), ("seen", "recurrent", ["B"], torch.int64)]

        def forward(self, input_ids, past_length, state):
            logits, after = super().forward(input_ids, past_length, state[:-1])
            places = state[-1][:, None] + torch.arange(input_ids.shape[1])
            return logits + torch.sin(places)[..., None], [*after, state[-1] + input_ids.shape[1]]

    artifact = export(seeded(Counting), out=tmp_path / "out")
    assert [spec.dtype for spec in artifact.manifest.signature.state] == ["float32", "float32", "int64"]


def test_the_command_exports_a_factory_and_verifies_it_again(tmp_path, capsys):
    tiny_tokenizer().save_pretrained(str(tmp_path / "tokenizer"))
    out, tokenizer = str(tmp_path / "out"), str(tmp_path / "tokenizer" / "tokenizer.json")
    factory = "tests.support.own_modules:build_recurrent"
    assert jisu.main(["export", factory, "--tokenizer", tokenizer, "--out", out, "--dry-run"]) == 0
    assert "Recurrent" in capsys.readouterr().out
    assert jisu.main(["export", factory, "--tokenizer", tokenizer, "--out", out, "--no-advice"]) == 0
    assert jisu.main(["verify", out, "--tokenizer", tokenizer]) == 0
    assert "accepted" in capsys.readouterr().out
    assert jisu.main(["generate", out, "The fox", "--max-new-tokens", "3"]) == 0


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["tests.support.own_modules:build_nothing"], "does not return a module"),
        (["tests.support.own_modules:build_recurrent", "--tokenizer", "nowhere.json"], "There is no tokenizer"),
        (["nowhere.at_all:build"], "cannot be imported"),
        (["tests.support.own_modules:build_recurrent", "--revision", "main"], "not a hub id"),
    ],
)
def test_bad_input_is_one_sentence_and_leaves_nothing(words, said, tmp_path, capsys):
    assert jisu.main(["export", *words, "--out", str(tmp_path / "out"), "--quiet"]) == 2
    error = capsys.readouterr().err
    assert said in error
    assert len(error.splitlines()) == 1
    assert list(tmp_path.iterdir()) == []
