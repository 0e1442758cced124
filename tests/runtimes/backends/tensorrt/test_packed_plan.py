from __future__ import annotations

import gzip
import random
import zlib

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.tensorrt.packed_plan import pack_plan, unpack_plan

WEIGHTS = random.Random(0).randbytes(600_000)
KERNELS = b"float4 x = load(p + threadIdx.x);\n" * 20_000


@pytest.mark.parametrize("plan", [b"", b"a plan", WEIGHTS, KERNELS, WEIGHTS + KERNELS + WEIGHTS])
def test_a_plan_comes_back_as_it_was(plan):
    packed = pack_plan(memoryview(plan))
    assert unpack_plan(packed) == plan
    if plan:
        assert gzip.decompress(packed) == plan  # what every other tool makes of it


def test_kernels_shrink_and_weights_do_not_grow():
    assert len(pack_plan(KERNELS)) < 0.05 * len(KERNELS)
    assert len(pack_plan(WEIGHTS)) < 1.001 * len(WEIGHTS)
    # What is stored is not searched for repetitions, which is what takes the time.
    assert WEIGHTS[:1000] in pack_plan(WEIGHTS)


@pytest.mark.parametrize("damaged", [b"no gzip file", pack_plan(KERNELS)[:-9], zlib.compress(b"x")])
def test_anything_else_is_one_clear_error(damaged):
    with pytest.raises(InputError, match="cannot be unpacked.*build it again"):
        unpack_plan(damaged)
