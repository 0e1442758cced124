from __future__ import annotations

import json

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.declaration import forget_quantization, read_declaration
from tests.support.models import llama_config


def write(folder, **files):
    for name, content in files.items():
        (folder / f"{name}.json").write_text(json.dumps(content))
    return read_declaration(folder)


def test_nothing_is_declared(tmp_path):
    actual = write(tmp_path, config={"model_type": "llama", "quantization_config": None})
    assert (actual.method, actual.origin, dict(actual.settings)) == ("", "", {})


@pytest.mark.parametrize(
    ("files", "method", "origin"),
    [
        ({"config": {"quantization_config": {"quant_method": "GPTQ", "bits": 4}}}, "gptq", "quantization_config in"),
        ({"config": {"text_config": {"quantization_config": {"quant_method": "fp8"}}}}, "fp8", "text_config."),
        ({"config": {"quantization_config": {"load_in_4bit": True}}}, "bitsandbytes", "quantization_config in"),
        ({"config": {"compression_config": {"config_groups": {}}}}, "compressed-tensors", "compression_config in"),
        ({"config": {"quantization": {"bits": 4, "group_size": 64}}}, "mlx", "quantization in config.json"),
        ({"config": {"quantization_config": {"bits": 4, "group_size": 64}}}, "", "quantization_config in"),
        ({"hf_quant_config": {"quantization": {"quant_algo": "FP8"}}}, "modelopt", "hf_quant_config.json"),
        ({"quantize_config": {"bits": 4, "group_size": 128}}, "gptq", "quantize_config.json"),
        ({"quant_config": {"w_bit": 4, "version": "GEMM"}}, "awq", "quant_config.json"),
    ],
)
def test_a_declaration_is_found_wherever_tools_put_it(tmp_path, files, method, origin):
    actual = write(tmp_path, **files)
    assert actual.method == method
    assert actual.origin.startswith(origin)


def test_settings_of_modelopt_are_those_of_its_quantization(tmp_path):
    actual = write(
        tmp_path, hf_quant_config={"producer": {}, "quantization": {"quant_algo": "NVFP4", "group_size": 16}}
    )
    assert actual.setting("quant_algo") == "NVFP4"
    assert actual.count("group_size") == 16


def test_a_declaration_that_is_no_object_is_refused(tmp_path):
    with pytest.raises(InputError, match="does not describe a quantization"):
        write(tmp_path, config={"quantization_config": "gptq"})


def test_a_count_that_is_none_is_refused(tmp_path):
    with pytest.raises(InputError, match="no usable bits"):
        write(tmp_path, config={"quantization_config": {"quant_method": "gptq", "bits": "four"}}).count("bits")


def test_a_configuration_forgets_that_it_was_quantized():
    config = llama_config(quantization_config={"quant_method": "gptq"})
    forget_quantization(config)
    assert "quantization_config" not in config.to_dict()
