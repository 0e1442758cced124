from __future__ import annotations

from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.methods import check_method
from tests.exporter.sources.quantized.tables import declared

FOLDER = Path("model")


@pytest.mark.parametrize(
    ("method", "reason"),
    [("aqlm", "learned codebooks"), ("bitnet", "part of the model"), ("eetq", "GPU kernel"), ("new", "not known here")],
)
def test_a_method_that_is_not_read_is_refused_with_the_reason(method, reason):
    with pytest.raises(InputError, match=f"{method}.*{reason}.*where there is one"):
        check_method(declared(method), FOLDER)


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"format": "marlin-24"}, "marlin-24"),
        ({"config_groups": {"a": {"format": "mxfp6-pack-quantized"}}}, "mxfp6"),
        ({"sparsity_config": {"format": "sparse-24-bitmask"}}, "sparse-24"),
        ({"transform_config": {"config_groups": {"R1": {}}}}, "rotated"),
    ],
)
def test_variants_of_compressed_tensors_that_are_not_read(settings, words):
    with pytest.raises(InputError, match=words):
        check_method(declared("compressed-tensors", **settings), FOLDER)


def test_methods_that_are_read_and_no_method_pass():
    check_method(declared("compressed-tensors", format="pack-quantized", transform_config={}), FOLDER)
    check_method(declared("gptq"), FOLDER)
    check_method(declared(), FOLDER)
    check_method(Declaration(settings={"bits": 4}, origin="config.json"), FOLDER)
