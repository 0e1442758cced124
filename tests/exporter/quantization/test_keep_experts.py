from __future__ import annotations

from types import SimpleNamespace

import gguf
import numpy as np
import pytest

from jisu.exporter.quantization.keep_experts import ExpertTensors
from jisu.exporter.quantization.matrices import Matrix
from jisu.exporter.sources.gguf.parts import read_gguf
from jisu.exporter.sources.gguf.weights import read_tensor

EXPERTS, INNER, HIDDEN = 3, 8, 64
STACKED = "model.layers.0.mlp.experts.gate_up_proj"


@pytest.fixture
def stored(tmp_path):
    """Of gate and up of three experts, two tensors in Q8_0, and a third in another type."""
    path = tmp_path / "model.gguf"
    writer = gguf.GGUFWriter(str(path), "llama")
    generator = np.random.default_rng(0)
    kinds = {"gate": gguf.GGMLQuantizationType.Q8_0, "up": gguf.GGMLQuantizationType.Q8_0}
    kinds["down"] = gguf.GGMLQuantizationType.Q4_0
    for name, kind in kinds.items():
        values = generator.standard_normal((EXPERTS, INNER, HIDDEN)).astype(np.float32)
        writer.add_tensor(f"{name}.weight", gguf.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return {tensor.name.removesuffix(".weight"): tensor for tensor in read_gguf(path).tensors}


def matrix(number):
    return Matrix(
        name=f"model.layers.0.mlp.experts.{number}.gate_up_proj",
        rows=2 * INNER,
        features=HIDDEN,
        embedding=False,
        storage=number,
        routed=STACKED,
    )


def experts(*tensors):
    return ExpertTensors({STACKED: SimpleNamespace(tensors=list(tensors))})


def test_each_experts_blocks_are_those_of_its_own_rows_in_the_order_of_the_model(stored):
    gate, up = stored["gate"], stored["up"]
    kept = experts(up, gate)  # as a file may list them
    for number in range(EXPERTS):
        own = np.concatenate([read_tensor(gate)[number], read_tensor(up)[number]])
        quantized = kept.quantized(matrix(number), own)
        assert quantized.format.bits == 8
        np.testing.assert_array_equal(quantized.dequantize(), own)


def test_what_the_model_was_not_loaded_with_is_not_kept(stored):
    kept = experts(stored["gate"], stored["up"])
    own = np.concatenate([read_tensor(stored["gate"])[1], read_tensor(stored["up"])[1]])
    assert kept.quantized(matrix(0), own) is None
    own[3, 5] += 1
    assert kept.quantized(matrix(1), own) is None


def test_only_tensors_of_one_type_with_an_axis_of_experts_have_a_type(stored):
    assert experts(stored["gate"], stored["up"]).type_of(matrix(0)) == "Q8_0"
    assert experts(stored["gate"], stored["down"]).type_of(matrix(0)) is None
    assert ExpertTensors({}).type_of(matrix(0)) is None
