"""Opens nothing on a CPU whose kernels compute something else than what was verified."""

from __future__ import annotations

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError


def check_kernels(artifact: Artifact) -> None:
    """Raise InputError where an artifact needs int8 matmuls that add in 32 bits, and this CPU's do not."""
    from jisu.runtimes.machine.int8_sums import int8_sums_overflow

    if not artifact.manifest.needs_vnni or not int8_sums_overflow():
        return
    raise InputError(
        f"{artifact.folder} computes wrong numbers on this CPU: its int8 matmuls overflow without VNNI",
        received="an artifact verified for CPUs with VNNI, on a CPU without",
        allowed="a CPU with VNNI or AMX, or one of Arm",
        fix="Export the model again without --assume-vnni: that is right on every CPU.",
    )
