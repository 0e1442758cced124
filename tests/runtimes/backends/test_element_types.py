from __future__ import annotations

import numpy as np

from jisu.exporter.contract.signature import DTYPES
from jisu.runtimes.backends.element_types import element_type, storage_dtype


def test_every_type_of_a_signature_has_memory_of_its_size():
    bits = {"bfloat16": 16, "bool": 8}
    for name in DTYPES:
        expected = bits.get(name) or int("".join(letter for letter in name if letter.isdigit()))
        assert storage_dtype(name).itemsize * 8 == expected


def test_bfloat16_is_kept_as_bits_and_handed_over_by_its_number():
    assert storage_dtype("bfloat16") == np.uint16
    assert element_type("bfloat16") == 16  # onnx.TensorProto.BFLOAT16
    assert element_type("float16") == np.float16
