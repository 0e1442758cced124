from __future__ import annotations

import numpy as np
import pytest

from exporter.errors import InputError
from runtimes.tensorrt.device import Device
from tests.runtimes.tensorrt.pretended import Cuda


def test_what_is_written_is_read_back_and_new_memory_is_zero():
    device = Device(Cuda())
    address = device.allocate(16, purpose="a test")
    found = np.ones(4, np.float32)
    device.read(address, found)
    assert found.tolist() == [0, 0, 0, 0]
    device.write(address, np.arange(4, dtype=np.float32))
    device.read(address, found)
    assert found.tolist() == [0, 1, 2, 3]


def test_a_driver_that_fails_is_one_clear_error():
    cuda = Cuda()
    cuda.cudaMemsetAsync = lambda *_: (719,)
    with pytest.raises(InputError, match="cudaMemsetAsync with error 719.*jisu doctor"):
        Device(cuda).allocate(4, purpose="a test")
