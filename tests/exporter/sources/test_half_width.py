"""A checkpoint of two bytes a number lies in the file as it is, and computes as if it were float32."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import nn

import jisu
from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources import half_width, load_source, paged_weights
from jisu.exporter.sources.compute_device import computing_on
from jisu.exporter.sources.half_width import (
    Float32Copies,
    common_half,
    float32_array,
    float32_bytes,
    float32_shapes,
    is_half,
    largest_call,
    widens_in_calls,
)
from tests.support.mixtures import mixture_config
from tests.support.models import write_tiny, write_tiny_llama

TOKENS = torch.arange(9)[None]


@pytest.fixture(scope="module")
def patched() -> Iterator[pytest.MonkeyPatch]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paged_weights, "PAGED_FROM", 0)
        patch.setattr(paged_weights, "_SMALL", 1)
        patch.setattr(paged_weights, "WINDOW", 1 << 10)  # a layer at a time
        yield patch


def write_half(folder: Path, source: Path, dtype: torch.dtype = torch.bfloat16) -> Path:
    from transformers import AutoModelForCausalLM

    AutoModelForCausalLM.from_pretrained(source, dtype=dtype).save_pretrained(folder)
    for file in source.glob("tokenizer*"):
        shutil.copy(file, folder)
    return folder


@pytest.fixture(scope="module")
def half(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("half")
    return write_half(folder / "bf16", write_tiny_llama(folder / "source", tie_word_embeddings=False))


def logits_of(module: nn.Module) -> torch.Tensor:
    with torch.inference_mode():
        return module(TOKENS).logits


def two_bytes(module: nn.Module) -> set[str]:
    return {name for name, weight in module.named_parameters() if is_half(weight)}


@pytest.mark.usefixtures("patched")
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("tied", [True, False])
def test_matrices_stay_as_they_are_and_logits_are_float32s(tmp_path: Path, dtype: torch.dtype, *, tied: bool) -> None:
    folder = write_half(tmp_path / "half", write_tiny_llama(tmp_path / "source", tie_word_embeddings=tied), dtype)
    expected = load_source(folder)
    source = load_source(folder, scratch=tmp_path)
    assert two_bytes(source.module) == {name for name, one in source.module.named_parameters() if one.ndim > 1}
    assert not two_bytes(expected.module)
    for _ in range(2):
        assert torch.equal(logits_of(source.module), logits_of(expected.module))
        source.let_go()
    assert source.weight_bytes == expected.weight_bytes
    for name, weight in source.module.named_parameters():
        assert (float32_array(weight) == expected.module.get_parameter(name).detach().numpy()).all(), name


@pytest.mark.usefixtures("patched")
@pytest.mark.parametrize("precision", ["fp32", "int4"])
def test_an_export_has_the_same_bytes(tmp_path: Path, half: Path, precision: str) -> None:
    paged = jisu.export(half, tmp_path / "paged", precision=precision)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(paged_weights, "PAGED_FROM", 1 << 40)
        in_memory = jisu.export(half, tmp_path / "memory", precision=precision)
    for file in in_memory.manifest.files:
        assert (paged.folder / file).read_bytes() == (in_memory.folder / file).read_bytes(), file


@pytest.mark.usefixtures("patched")
def test_gradients_are_float32s_and_what_is_kept_for_them_has_two_bytes(
    tmp_path: Path, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    gradients, kept, own = [], [], half_width._read_saved

    def read(saved: Any) -> torch.Tensor:
        kept.extend(saved if isinstance(saved, tuple) else ())
        return own(saved)

    monkeypatch.setattr(half_width, "_read_saved", read)
    for module in (load_source(half).module, load_source(half, scratch=tmp_path).module):
        entering = load_source(half).module.model.embed_tokens(TOKENS).detach().requires_grad_()
        module(inputs_embeds=entering).logits.square().sum().backward()
        gradients.append(entering.grad)
    assert gradients[0] is not None
    assert torch.equal(*gradients)
    assert len(kept) >= 7 * 2  # the matrices of two layers
    assert {one.dtype for one in kept} == {torch.bfloat16}


@pytest.mark.usefixtures("patched")
def test_a_layer_that_fails_has_its_own_weights_back(tmp_path: Path, half: Path) -> None:
    module: Any = load_source(half, scratch=tmp_path).module
    before = two_bytes(module)
    assert "model.layers.0.mlp.up_proj.weight" in before
    with pytest.raises(RuntimeError):
        module.model.layers[0](torch.zeros(1, 3, 5))
    assert two_bytes(module) == before


@pytest.mark.usefixtures("patched")
def test_a_device_takes_two_bytes_and_gives_them_back(tmp_path: Path, half: Path) -> None:
    module = load_source(half, scratch=tmp_path).module
    expected, places = logits_of(module), {name: one.data_ptr() for name, one in module.named_parameters()}
    with computing_on("cpu:0", module):
        assert torch.equal(logits_of(module), expected)
    assert {name: one.data_ptr() for name, one in module.named_parameters()} == places


@pytest.mark.usefixtures("patched")
def test_a_model_that_rounds_to_its_weights_dtype_gets_float32(
    tmp_path: Path, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from transformers import LlamaModel

    own = LlamaModel.forward

    def rounding(self: Any, *args: Any, **kwargs: Any) -> Any:
        output = own(self, *args, **kwargs)
        output.last_hidden_state = output.last_hidden_state.to(self.embed_tokens.weight.dtype).float()
        return output

    monkeypatch.setattr(LlamaModel, "forward", rounding)
    source = load_source(half, scratch=tmp_path)
    assert not two_bytes(source.module)
    assert torch.equal(logits_of(source.module), logits_of(load_source(half).module))


@pytest.mark.usefixtures("patched")
def test_a_weight_that_the_layers_do_not_read_is_float32(
    tmp_path: Path, half: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(half_width, "_SHARE", 0.5)
    monkeypatch.setattr(half_width, "_is_table", lambda part: False)
    source = load_source(half, scratch=tmp_path)
    assert "model.embed_tokens.weight" not in two_bytes(source.module)
    assert "model.layers.0.mlp.up_proj.weight" in two_bytes(source.module)


@pytest.mark.usefixtures("patched")
def test_a_checkpoint_that_changes_later_is_refused_by_whatever_reads_it(tmp_path: Path, half: Path) -> None:
    folder = shutil.copytree(half, tmp_path / "changes")
    module = load_source(folder, scratch=tmp_path).module
    logits_of(module)
    with (folder / "model.safetensors").open("r+b") as file:
        file.seek(-2, 2)
        file.write(b"\x12\x34")
    with pytest.raises(InputError, match="changed while it was read"):
        logits_of(module)


@pytest.mark.usefixtures("patched")
def test_experts_have_two_bytes_and_the_same_logits(tmp_path: Path) -> None:
    write_tiny(tmp_path / "source", mixture_config())
    half = write_half(tmp_path / "half", tmp_path / "source")
    source = load_source(half, scratch=tmp_path)
    assert "model.layers.0.mlp.experts.down_proj" in two_bytes(source.module)
    assert torch.equal(logits_of(source.module), logits_of(load_source(half).module))


@pytest.mark.usefixtures("patched")
def test_it_is_known_before_weights_are_read_that_nothing_is_copied(tmp_path: Path, half: Path) -> None:
    outline = load_source(half, outline=True)
    assert outline.in_place
    assert largest_call(outline.module, projection=False) == float32_bytes(outline.module.model.layers[0].parameters())
    assert not load_source(write_tiny_llama(tmp_path / "float32"), outline=True).in_place
    assert load_source(half, scratch=tmp_path).in_place
    assert not load_source(half).in_place


def test_a_copy_is_of_what_the_weight_holds_now() -> None:
    part, copies = nn.Linear(64, 64, bias=False, dtype=torch.bfloat16), Float32Copies(lambda: None)
    part.requires_grad_(requires_grad=False)
    for number in range(20):  # memory that is free again is what comes next
        part.weight.data = torch.full((64, 64), number, dtype=torch.bfloat16)
        assert copies.of(part, part.weight).unique().tolist() == [number]


def test_a_checkpoint_of_several_dtypes_has_no_common_one() -> None:
    shapes = {"a": (4, 4), "b": (4, 4), "norm": (4,)}
    assert common_half({"a": "BF16", "b": "BF16", "norm": "F32"}, shapes) == torch.bfloat16
    assert common_half({"a": "F16", "b": "F16", "norm": "F16"}, shapes) == torch.float16
    assert common_half({"a": "BF16", "b": "F32", "norm": "F32"}, shapes) is None
    assert common_half({"a": "F8_E4M3", "b": "F8_E4M3", "norm": "F32"}, shapes) is None


def test_shapes_alone_are_float32_and_go_back() -> None:
    module = nn.Linear(3, 2, dtype=torch.bfloat16)
    own = module.weight.data_ptr()
    with float32_shapes(module) as named:
        assert module.weight.dtype == torch.float32
        assert named["weight"].dtype == torch.bfloat16
    assert module.weight.data_ptr() == own
    assert float32_bytes(module.parameters()) == 4 * (6 + 2)


def test_a_module_without_layers_is_not_widened(half: Path) -> None:
    assert not widens_in_calls(nn.Linear(3, 2))
    assert widens_in_calls(load_source(half).module)
