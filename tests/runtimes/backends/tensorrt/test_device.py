from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.tensorrt.device import Device
from jisu.runtimes.machine.gpu import probe_gpus
from tests.runtimes.backends.tensorrt.pretended import Cuda


def test_what_is_written_is_read_back_and_new_memory_is_zero():
    device = Device(Cuda())
    address = device.allocate(16, purpose="a test")
    actual = np.ones(4, np.float32)
    device.read(address, actual)
    assert actual.tolist() == [0, 0, 0, 0]
    device.write(address, np.arange(4, dtype=np.float32))
    device.read(address, actual)
    assert actual.tolist() == [0, 1, 2, 3]


def test_a_driver_that_fails_is_one_clear_error():
    cuda = Cuda()
    cuda.cudaMemsetAsync = lambda *_: (719,)
    with pytest.raises(InputError, match="cudaMemsetAsync with error 719.*jisu doctor"):
        Device(cuda).allocate(4, purpose="a test")


class Both(Cuda):
    """Makes each call twice: of the real module, which without a driver only looks at its arguments, and of ours."""

    def __init__(self, real: Any) -> None:
        super().__init__()
        self.real, self.called = real, set[str]()
        self.cudaMemcpyKind, self.cudaStreamCaptureMode = real.cudaMemcpyKind, real.cudaStreamCaptureMode

    def __getattribute__(self, name: str) -> Any:
        ours = super().__getattribute__(name)
        if not name.startswith("cuda") or not callable(ours) or name.endswith(("Kind", "Mode")):
            return ours

        def call(*arguments: Any) -> Any:
            # Our graphs are lists, and no driver has made the real one's.
            code, *actual = getattr(self.real, name)(*(0 if isinstance(item, list) else item for item in arguments))
            assert int(code) != 0
            self.called.add(name)
            answer = ours(*arguments)
            assert len(actual) == len(answer) - 1
            return answer

        return call


def test_every_call_is_one_that_the_real_module_takes() -> None:
    if probe_gpus().problem is None:
        pytest.skip("there is a driver, which would do what is only meant to be looked at")
    cuda = Both(pytest.importorskip("cuda.bindings.runtime", reason="the package cuda-bindings is not installed"))
    device = Device(cuda)
    first, second = (device.allocate(16, purpose="a test") for _ in range(2))
    device.write(first, np.arange(4, dtype=np.float32))
    device.copy(second, first, 16)
    actual = np.zeros(4, np.float32)
    device.read(second, actual)
    assert actual.tolist() == [0, 1, 2, 3]
    graph = device.capture(lambda: True)
    device.launch(graph)
    with pytest.raises(InputError, match="no room"):
        device.allocate(1 << 40, purpose="too much")
    device.close()
    ours = {name for name in dir(Cuda) if name.startswith("cuda") and not name.endswith(("Kind", "Mode"))}
    assert cuda.called == ours
