from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.pipeline import export
from jisu.exporter.quantization.keep import keep_quantization
from jisu.exporter.quantization.kept_types import describe_kept
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_gguf


def kept(path, **options):
    source = load_source(path)
    return source, keep_quantization(source, path, **options)


@pytest.mark.parametrize("kind", ["Q4_0", "Q8_0", "Q5_0"])
def test_every_matrix_is_the_loaded_one_bit_for_bit(tmp_path, kind):
    source, actual = kept(write_tiny_gguf(tmp_path / "model.gguf", quantization=kind, tied=False))
    assert len(actual.by_name) == 2 * 7 + 2
    for name, quantized in actual.by_name.items():
        own = source.module.get_parameter(name).numpy()
        assert np.array_equal(quantized.dequantize(), own), name
    record = actual.record["types"][kind]
    assert (record["exact"], record["weights"], record["rms_error"]) == (True, 16, 0.0)


def test_a_tied_embedding_is_one_weight_under_two_names(tmp_path):
    _, actual = kept(write_tiny_gguf(tmp_path / "model.gguf", quantization="Q8_0", tied=True))
    assert actual.by_name["lm_head.weight"] is actual.by_name["model.embed_tokens.weight"]


def test_the_closest_form_states_its_error(tmp_path):
    _, actual = kept(write_tiny_gguf(tmp_path / "model.gguf", quantization="Q4_1"))
    record = actual.record["types"]["Q4_1"]
    assert record["exact"] is False
    assert 0 < record["rms_error"] < 0.01
    assert "closest form" in describe_kept(actual.record)[0]


def test_embeddings_have_whole_bytes_where_the_target_needs_them(tmp_path):
    path = write_tiny_gguf(tmp_path / "model.gguf", quantization="Q4_0")
    source, actual = kept(path, whole_bytes=True)
    embedding = actual.by_name["model.embed_tokens.weight"]
    assert embedding.format.bits == 8
    assert np.array_equal(embedding.dequantize(), source.module.get_parameter("model.embed_tokens.weight").numpy())


def test_a_file_without_integers_has_nothing_to_keep(tmp_path):
    with pytest.raises(InputError, match=r"Nothing in .* is quantized"):
        kept(write_tiny_gguf(tmp_path / "model.gguf", quantization="F32"))


def test_other_weights_than_the_loaded_ones_are_refused(tmp_path):
    source = load_source(write_tiny_gguf(tmp_path / "model.gguf", quantization="Q8_0"))
    other = write_tiny_gguf(tmp_path / "other.gguf", quantization="Q8_0", seed=1)
    with pytest.raises(InputError, match="cannot be kept.*other values"):
        keep_quantization(source, other)


def test_a_folder_has_no_quantization_to_keep(tiny_source, tmp_path):
    with pytest.raises(InputError, match="no quantization that could be kept.*GGUF"):
        export(tiny_source, tmp_path / "out", keep_quantization=True)


def test_keeping_and_changing_exclude_each_other(tmp_path):
    path = write_tiny_gguf(tmp_path / "model.gguf", quantization="Q8_0")
    with pytest.raises(InputError, match="cannot be both kept and changed"):
        export(path, tmp_path / "out", keep_quantization=True, precision="int4")


@pytest.mark.parametrize("target", ["ort-cpu", "portable", "ort-cuda"])
def test_an_artifact_with_the_files_own_blocks_is_accepted(tmp_path, target):
    # Random weights amplify what the runtime rounds; the exactness of the weights is tested above.
    path = write_tiny_gguf(tmp_path / "model.gguf", quantization="Q4_0")
    artifact = export(path, tmp_path / "out", target=target, keep_quantization=True, max_kl=0.2, min_top1=0.5)
    assert artifact.manifest.precision == "gguf"
    assert artifact.manifest.quantization["types"]["Q4_0"]["exact"] is True
