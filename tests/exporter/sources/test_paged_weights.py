"""A module whose weights lie in a file is the same module, whatever is let go of, and takes no memory for them."""

from __future__ import annotations

import gc
import shutil
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import torch

import jisu
from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from jisu.exporter.sources import load_source, paged_weights
from jisu.exporter.sources.paged_weights import PagedWeights
from tests.support.mixtures import mixture_config
from tests.support.models import TINY_VOCAB, random_model, write_tiny, write_tiny_gguf, write_tiny_llama


@pytest.fixture
def everything_paged(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged_weights, "PAGED_FROM", 0)
    monkeypatch.setattr(paged_weights, "_SMALL", 1)
    monkeypatch.setattr(paged_weights, "WINDOW", 1 << 10)  # a layer at a time


def logits_of(module: torch.nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return module(torch.arange(9)[None]).logits


def outside(source) -> list[str]:
    scratch = source.paged._scratch
    return [name for name, one in source.module.named_parameters() if not scratch.holds(one.data_ptr())]


def gpt2_config():
    from transformers import GPT2Config

    return GPT2Config(
        vocab_size=TINY_VOCAB, n_positions=64, n_embd=32, n_layer=2, n_head=4, bos_token_id=1, eos_token_id=1
    )


@pytest.mark.usefixtures("everything_paged")
@pytest.mark.parametrize("kind", ["llama", "gguf", "experts that are merged", "transposed layers"])
def test_every_weight_lies_in_the_file_and_the_logits_are_the_same(tmp_path: Path, kind: str) -> None:
    checkpoint = tmp_path / "source"
    if kind == "llama":
        write_tiny_llama(checkpoint)
    elif kind == "gguf":
        checkpoint = write_tiny_gguf(tmp_path / "tiny.gguf")
    else:
        write_tiny(checkpoint, mixture_config() if kind.startswith("experts") else gpt2_config())
    expected = logits_of(load_source(checkpoint).module)
    source = load_source(checkpoint, scratch=tmp_path)
    assert outside(source) == []
    for _ in range(2):
        assert torch.equal(logits_of(source.module), expected)
        source.let_go()


@pytest.mark.usefixtures("everything_paged")
def test_tied_weights_stay_one(tmp_path: Path) -> None:
    source = load_source(write_tiny_llama(tmp_path / "source", tie_word_embeddings=True), scratch=tmp_path)
    module = source.module
    assert module.lm_head.weight is module.model.embed_tokens.weight


@pytest.mark.usefixtures("everything_paged")
def test_a_changed_weight_stays_changed_when_it_is_let_go_of(tmp_path: Path) -> None:
    source = load_source(write_tiny_llama(tmp_path / "source"), scratch=tmp_path)
    before = logits_of(source.module)
    with torch.no_grad():
        source.module.model.layers[0].mlp.up_proj.weight.mul_(2)
    source.let_go()
    assert not torch.equal(logits_of(source.module), before)


@pytest.mark.usefixtures("everything_paged")
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_an_export_has_the_same_bytes_and_leaves_no_file(tmp_path: Path, precision: str) -> None:
    folder = write_tiny_llama(tmp_path / "source")
    paged = jisu.export(folder, tmp_path / "paged", precision=precision)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paged_weights, "PAGED_FROM", 1 << 40)
        in_memory = jisu.export(folder, tmp_path / "memory", precision=precision)
    for file in in_memory.manifest.files:
        assert (paged.folder / file).read_bytes() == (in_memory.folder / file).read_bytes(), file
    gc.collect()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["memory", "paged", "source"]


def test_layers_let_go_of_what_they_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged_weights, "_SMALL", 1)
    module = random_model(gpt2_config())
    paged = PagedWeights(tmp_path)
    paged.adopt(module)
    largest = max(sum(one.nbytes for one in layer.parameters()) for layer in module.transformer.h)
    monkeypatch.setattr(paged_weights, "WINDOW", largest)
    released = []
    monkeypatch.setattr(paged, "let_go", lambda: released.append(setattr(paged, "_read", 0)))
    logits_of(module)
    assert len(released) >= len(module.transformer.h)


def test_a_small_model_or_a_full_disk_leaves_weights_in_memory(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    module = random_model(gpt2_config())
    assert paged_weights.paged_weights(module, tmp_path) is None
    monkeypatch.setattr(paged_weights, "PAGED_FROM", 0)
    assert paged_weights.paged_weights(module, None) is None
    assert paged_weights.paged_weights(module, tmp_path) is not None
    monkeypatch.setattr(shutil, "disk_usage", lambda folder: shutil._ntuple_diskusage(10, 10, 0))
    assert paged_weights.paged_weights(module, tmp_path) is None


def test_records_keep_their_values_in_the_file(tmp_path: Path) -> None:

    weight = np.random.default_rng(0).normal(size=(512, 512)).astype(np.float32)
    record = round_to_nearest(weight, BlockFormat(bits=8, block_size=32, symmetric=False), layer="layer")
    paged = PagedWeights(tmp_path)
    stored = paged.store_record(record)
    assert paged._scratch.holds(stored.codes.ctypes.data)
    np.testing.assert_array_equal(stored.codes, record.codes)
    np.testing.assert_array_equal(stored.dequantize(), record.dequantize())


def test_scales_and_zero_points_of_a_small_matrix_lie_in_the_file_too(tmp_path: Path) -> None:
    weight = np.random.default_rng(0).normal(size=(384, 512)).astype(np.float32)
    record = round_to_nearest(weight, BlockFormat(bits=4, block_size=32, symmetric=False), layer="expert")
    paged = PagedWeights(tmp_path)
    stored = paged.store_record(record)
    assert all(paged._scratch.holds(one.ctypes.data) for one in (stored.codes, stored.scales, stored.zero_points))
    np.testing.assert_array_equal(stored.dequantize(), record.dequantize())
    tiny = round_to_nearest(weight[:8, :64], record.format, layer="expert")
    assert not paged._scratch.holds(paged.store_record(tiny).scales.ctypes.data), "not worth a page"


@pytest.mark.skipif(not Path("/proc/self/statm").exists(), reason="only Linux tells how much of files is in memory")
def test_what_nobody_lets_go_of_is_let_go_of_by_the_watch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(paged_weights, "WATCHED", 8 << 20)
    paged = PagedWeights(tmp_path)
    stored = paged.store_tensor(torch.ones(8 << 20))
    deadline = time.monotonic() + 20
    stored.sum()
    while paged_weights._file_bytes() - paged._floor >= 8 << 20:
        assert time.monotonic() < deadline
        time.sleep(0.02)
    assert float(stored[-1]) == 1.0


def test_the_watch_ends_with_the_file(tmp_path: Path) -> None:
    before = threading.active_count()
    paged = PagedWeights(tmp_path)
    del paged
    gc.collect()
    deadline = time.monotonic() + 20
    while threading.active_count() > before:
        assert time.monotonic() < deadline
        time.sleep(0.02)
