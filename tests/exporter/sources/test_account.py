from __future__ import annotations

import json

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.account import Account, Statement, collapse, is_ignored

ACCOUNT = (
    Account(ignore=("*.mtp.*",))
    .state("tensor", ["model.layers.0.q.weight", "model.layers.1.q.weight"], fate="used", dtype="BF16")
    .state("tensor", ["model.layers.0.inv_freq", "model.layers.1.inv_freq"], fate="derived", why="rotary frequencies")
    .state("tensor", "model.layers.0.mtp.weight", fate="ignored", why="*.mtp.*")
    .state("config", "transformers_version", fate="harmless")
    .state("config", "strange", fate="unread", why="LlamaConfig has no such key")
    .state("gguf", "llama.rope.freq_base", fate="used", why="rope_theta")
)


def test_statements_keep_their_order_and_are_found_by_fate() -> None:
    assert ACCOUNT.statements[0] == Statement(kind="tensor", name="model.layers.0.q.weight", fate="used", dtype="BF16")
    assert ACCOUNT.names("harmless") == ["transformers_version"]
    assert ACCOUNT.names("used", "gguf") == ["llama.rope.freq_base"]
    assert Account().statements == ()
    assert Account().add(ACCOUNT.statements).statements == ACCOUNT.statements


def test_record_counts_all_and_names_what_is_not_plainly_used() -> None:
    record = ACCOUNT.to_record()
    assert json.loads(json.dumps(record)) == record
    assert record["counts"] == {
        "tensor": {"used": 2, "derived": 2, "ignored": 1},
        "config": {"harmless": 1, "unread": 1},
        "gguf": {"used": 1},
    }
    assert record["dtypes"] == {"BF16": 2}
    assert record["ignore_weights"] == ["*.mtp.*"]
    assert [(group["fate"], group["count"], group["names"]) for group in record["named"]] == [
        ("used", 1, ["llama.rope.freq_base"]),
        ("derived", 2, ["model.layers.*.inv_freq"]),
        ("harmless", 1, ["transformers_version"]),
        ("unread", 1, ["strange"]),
        ("ignored", 1, ["model.layers.0.mtp.weight"]),
    ]


def test_notes_tell_what_nothing_reads_and_what_is_left_out() -> None:
    assert ACCOUNT.notes() == (
        "Keys of the configuration that nothing reads: strange (LlamaConfig has no such key).",
        "Stored tensors left out on request: model.layers.0.mtp.weight (*.mtp.*).",
    )


def test_everything_refused_is_named_at_once() -> None:
    ACCOUNT.refuse("model")
    account = ACCOUNT.state("tensor", ["layers.0.bias", "layers.1.bias", "scale"], fate="refused", why="no place")
    account = account.state("config", "max_position_embeddingz", fate="refused", why="like max_position_embeddings")
    with pytest.raises(InputError) as error:
        account.refuse("model")
    text = str(error.value)
    assert "stored tensors layers.*.bias, scale (no place)" in text
    assert "max_position_embeddingz" in text and "--ignore-weights" in text
    with pytest.raises(InputError) as error:
        Account().state("gguf", "llama.rope.odd", fate="refused").refuse("model")
    assert "--ignore-weights" not in str(error.value)


def test_numbers_of_layers_collapse_and_others_stay() -> None:
    assert collapse(["h.0.w", "h.1.w", "h.10.mlp.experts.3.w", "wte2.w", "wte3.w"]) == [
        "h.*.w",
        "h.10.mlp.experts.3.w",
        "wte2.w",
        "wte3.w",
    ]


def test_remarks_and_patterns_without_a_tensor_are_told() -> None:
    account = Account(ignore=("a.*", "b.*")).state("tensor", "a.w", fate="ignored", why="a.*").remark("So it is.")
    assert account.notes()[0] == "So it is."
    assert account.notes()[-1] == "No stored tensor matches --ignore-weights 'b.*'."
    assert account.to_record()["remarks"] == ["So it is."]


def test_patterns_match_whole_names() -> None:
    assert is_ignored("model.layers.3.mtp.weight", ("*.mtp.*",))
    assert not is_ignored("model.layers.3.mtp.weight", ("mtp", "*.MTP.*"))
