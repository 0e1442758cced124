from __future__ import annotations

import json
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_gguf, write_tiny_llama

gguf = pytest.importorskip("gguf", reason="reading GGUF files needs the gguf package")

_TEXTS = ("Hello world", "héllo 你好，世界 🚀👩‍💻", "x = 1\n\n  y", "<s>user\nhi</s>", "<|endoftext|>")


def test_a_gguf_file_tells_the_same_facts_as_the_folder(tmp_path: Path) -> None:
    assert (
        load_source(write_tiny_gguf(tmp_path / "model.gguf")).model
        == load_source(write_tiny_llama(tmp_path / "folder")).model
    )


def test_a_gguf_file_carries_tokenizer_and_chat_template(tmp_path: Path) -> None:
    ours = load_source(write_tiny_gguf(tmp_path / "model.gguf", layers=1)).tokenizer
    reference = load_source(write_tiny_llama(tmp_path / "folder", layers=1)).tokenizer
    for text in _TEXTS:
        assert ours(text).input_ids == reference(text).input_ids
        assert ours.decode(ours(text).input_ids) == text
    assert ours.chat_template == reference.chat_template
    assert ours.special_tokens_map == reference.special_tokens_map


def test_no_token_is_invented_behind_the_last_row(tmp_path: Path) -> None:
    tokenizer = load_source(write_tiny_gguf(tmp_path / "model.gguf", layers=1)).tokenizer
    assert max(tokenizer.get_vocab().values()) < 384
    assert "<|endoftext|>" not in tokenizer.get_vocab()


def test_a_gguf_file_without_a_tokenizer_has_none(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", layers=1, tokenizer=False, settings={"vocab_size": 384})
    assert load_source(path).tokenizer is None


def test_the_token_that_ends_a_turn_ends_an_answer(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", layers=1, settings={"tokenizer.ggml.eot_token_id": 9})
    assert load_source(path).model.eos == (1, 9)


def test_provenance_names_the_file_and_its_types(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", layers=1, quantization="Q4_1")
    provenance = load_source(path).provenance
    assert json.loads(json.dumps(provenance)) == provenance
    assert (provenance["kind"], provenance["name"], provenance["dtype"]) == ("gguf", str(path), "F32, Q4_1")
    assert list(provenance["files"]) == ["model.gguf"]
    assert "gguf" in provenance["versions"]


def test_an_unknown_architecture_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"No configuration.*'unheard-of'.*llama"):
        load_source(write_tiny_gguf(tmp_path / "model.gguf", architecture="unheard-of"))


def test_inconsistent_metadata_is_refused(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", settings={"llama.attention.head_count": 7})
    with pytest.raises(InputError, match="rope.dimension_count .16 of 9 values of a head"):
        load_source(path)


def test_more_tensors_than_layers_are_refused(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", settings={"block_count": 1})
    with pytest.raises(InputError, match=r"9 tensors .* no place for.*blk\.1\.attn_q\.weight.*and 4 more"):
        load_source(path)


def test_missing_tensors_are_named(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", without=["blk.1.ffn_up.weight", "output_norm.weight"])
    with pytest.raises(InputError, match=r"2 missing \(model.layers.1.mlp.up_proj.weight, model.norm.weight\)"):
        load_source(path)


def test_a_tensor_of_another_shape_is_refused(tmp_path: Path) -> None:
    import numpy as np

    path = write_tiny_gguf(
        tmp_path / "model.gguf", without=["output_norm.weight"], extra={"output_norm.weight": np.ones(65)}
    )
    with pytest.raises(InputError, match=r"model.norm.weight is \[65\] instead of \[64\]"):
        load_source(path)


def test_a_tensor_without_a_place_is_refused(tmp_path: Path) -> None:
    import numpy as np

    path = write_tiny_gguf(tmp_path / "model.gguf", extra={"blk.0.attn_q.bias": np.ones(64)})
    with pytest.raises(InputError, match=r"no place for. Received: blk.0.attn_q.bias"):
        load_source(path)
    account = load_source(path, ignore_weights=["blk.*.attn_q.bias"]).account
    assert account.names("ignored", "tensor") == ["blk.0.attn_q.bias"]


def test_a_tokenizer_model_that_cannot_be_rebuilt_is_refused(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "model.gguf", settings={"tokenizer.ggml.model": "unheard-of"})
    with pytest.raises(InputError, match=r"tokenizer of .* cannot be loaded.*unheard-of"):
        load_source(path)


def test_an_empty_file_is_refused(tmp_path: Path) -> None:
    (tmp_path / "model.gguf").write_bytes(b"")
    with pytest.raises(InputError, match="truncated or damaged"):
        load_source(tmp_path / "model.gguf")


@pytest.mark.slow
def test_loading_the_real_model_peaks_at_little_more_than_its_weights(smollm2_gguf: Path) -> None:
    import subprocess
    import sys

    code = (
        "import sys\n"
        "from jisu.exporter.jobs.peak_memory import PeakMemory\n"
        "from jisu.exporter.sources import load_source\n"
        "memory = PeakMemory(); memory.reset()\n"
        "source = load_source(sys.argv[1])\n"
        "print(memory.read(), source.weight_bytes)"
    )
    finished = subprocess.run([sys.executable, "-c", code, smollm2_gguf], capture_output=True, text=True, check=True)
    peak, weights = map(int, finished.stdout.split())
    # torch, transformers and what they import take 330 to 360 MB of it.
    assert peak < 1.3 * weights + 400e6


@pytest.mark.slow
def test_the_real_model_answers(smollm2_gguf: Path) -> None:
    source = load_source(smollm2_gguf)
    prompt = source.tokenizer.apply_chat_template(
        [{"role": "user", "content": "What is the capital of France?"}],
        add_generation_prompt=True,
        return_tensors="pt",
        return_dict=True,
    )
    answer = source.module.generate(**prompt, max_new_tokens=10, do_sample=False)
    assert "Paris" in source.tokenizer.decode(answer[0])
