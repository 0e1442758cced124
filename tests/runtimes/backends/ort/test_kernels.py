from __future__ import annotations

from dataclasses import replace

import pytest

from jisu.exporter.contract.artifact import KERNELS
from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.ort.kernels import check_kernels
from jisu.runtimes.backends.registry import open_backend
from jisu.runtimes.machine import int8_sums
from tests.runtimes.tiny_models import write_artifact


@pytest.fixture(params=[False, True], ids=["adds in 32 bits", "adds in 16 bits"])
def overflows(request, monkeypatch):
    monkeypatch.setattr(int8_sums, "int8_sums_overflow", lambda: request.param)
    return request.param


def needing(artifact, kernels, quantization=None):
    return replace(artifact, manifest=replace(artifact.manifest, kernels=kernels, quantization=quantization or {}))


@pytest.mark.parametrize("kernels", [None, *KERNELS])
def test_what_needs_32_bits_is_opened_where_they_are(tmp_path, overflows, kernels):
    artifact = needing(write_artifact(tmp_path / "artifact", "ort-cpu"), kernels)
    if overflows and kernels == "vnni":
        with pytest.raises(InputError, match="overflow without VNNI"):
            open_backend("ort-cpu", artifact)
    else:
        open_backend("ort-cpu", artifact).close()


@pytest.mark.parametrize(("reduced", "needs"), [(False, True), (True, False)])
def test_artifacts_that_do_not_say_are_told_by_their_weights(tmp_path, reduced, needs):
    made = needing(write_artifact(tmp_path / "artifact", "ort-cpu"), None, {"products": {"reduced_range": reduced}})
    assert made.manifest.needs_vnni is needs


def test_nothing_is_asked_of_the_machine_for_what_is_right_everywhere(tmp_path, monkeypatch):
    monkeypatch.setattr(int8_sums, "int8_sums_overflow", lambda: pytest.fail("asked"))
    check_kernels(needing(write_artifact(tmp_path / "artifact", "ort-cpu"), "any"))
