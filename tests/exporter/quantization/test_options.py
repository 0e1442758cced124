from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.gate.evaluation_text import read_evaluation_text
from jisu.exporter.jobs.stages import Stages
from jisu.exporter.precision.precision import precision_named
from jisu.exporter.quantization.calibration_texts import calibration_texts
from jisu.exporter.quantization.mixed_precision import Goal
from jisu.exporter.quantization.options import QuantizationOptions
from jisu.exporter.quantization.prepared import embedding_labels, prepare_quantization
from jisu.exporter.quantization.run import run_quantization
from jisu.exporter.quantization.weight_formats import BLOCK_SIZES
from jisu.exporter.sources import load_source
from tests.support.models import write_tiny_llama


@pytest.fixture(scope="module")
def wide(tmp_path_factory):
    """Every block size divides its input features."""
    folder = tmp_path_factory.mktemp("wide") / "source"
    return load_source(write_tiny_llama(folder, layers=2, hidden=256, heads=4, kv_heads=2))


def options(precision, **more):
    return QuantizationOptions(precision=precision_named(precision), **more)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"precision": "mixed"}, "needs a goal"),
        ({"precision": "gguf", "checkpoint": "folder"}, "Only a GGUF file has GGUF blocks"),
        ({"precision": "mixed", "goal": Goal(max_bytes=0)}, "target size is out of range"),
        ({"precision": "int8", "goal": Goal(max_bytes=10)}, "--target-size"),
        ({"precision": "int8", "sensitivity": "s.json"}, "--sensitivity"),
        ({"precision": "mixed", "goal": Goal(max_kl=0.1), "block_size": 32}, "--block-size"),
        ({"precision": "mixed", "goal": Goal(max_kl=0.1), "symmetric": True}, "--symmetric"),
    ],
)
def test_options_that_contradict_each_other_are_refused(changes, message):
    with pytest.raises(InputError, match=message):
        options(**changes)


@pytest.mark.parametrize("symmetric", [True, False])
@pytest.mark.parametrize("block_size", BLOCK_SIZES)
@pytest.mark.parametrize("precision", ["int8", "int4"])
def test_every_block_size_and_symmetry_is_carried_out(wide, precision, block_size, symmetric, monkeypatch):
    # Plain rounding in place of GPTQ, which has tests of its own and takes longer.
    for needs in ("calibrated", "balanced"):
        monkeypatch.setattr(f"jisu.exporter.quantization.weight_formats.FormatChoice.{needs}", False)
    expected = options(precision, block_size=block_size, symmetric=symmetric)
    prepared = prepare_quantization(wide, expected, evaluation=read_evaluation_text(None).text)
    actual = run_quantization(wide, prepared, measure=lambda _: None, target="ort-cpu", stages=Stages())
    for name, part in actual.by_name.items():
        form = part.format
        assert (form.block_size, form.symmetric) == (block_size, symmetric)
        weight = wide.module.get_parameter(name).numpy()
        step = part.scales.repeat(block_size, axis=1)[:, : weight.shape[1]]
        # The search may clip the ends of a block to place the rest better.
        assert (abs(part.dequantize() - weight) <= 0.51 * step).mean() > 0.9
    embeddings = [name for name in actual.by_name if "embed" in name or "lm_head" in name]
    assert len({id(actual.by_name[name]) for name in embeddings}) == 1, "a tied embedding is one"


def test_calibration_text_for_a_precision_without_calibration_is_refused(wide, tmp_path):
    with pytest.raises(InputError, match="uses no calibration text"):
        texts = calibration_texts(tmp_path / "x.txt")
        prepare_quantization(wide, options("fp16", calibration=texts), evaluation=read_evaluation_text(None).text)


def test_portable_graphs_gather_whole_bytes_only():
    assert "int4" not in embedding_labels("portable")
    assert "int4" not in embedding_labels("ort-cuda")
    assert "int4" in embedding_labels("ort-cpu")
