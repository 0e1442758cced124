"""What a dry run says of the graph that reads images or hears, beside what an export of it wrote."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from jisu.exporter.dry_run import estimate_export
from jisu.exporter.request import ExportRequest


def check_counted(checkpoint: Path, artifact: Path, file: str, *, out: Path) -> None:
    """Compare the bytes that are estimated of ``file`` with those of an fp32 artifact, and with other precisions."""

    def shares(**options: Any) -> tuple[Any, ...]:
        return estimate_export(ExportRequest(checkpoint=checkpoint, out=out, **options)).size.shares

    sizes = {}
    for precision in ("fp32", "fp16", "int8"):
        named = [share for share in shares(precision=precision) if share.label.endswith(file)]
        sizes[precision] = sum(share.largest_bytes for share in named)
    assert sizes["fp32"] == pytest.approx((artifact / f"{file}.data").stat().st_size, rel=0.1)
    assert sizes["fp16"] == sizes["fp32"] / 2 > 0
    assert sizes["int8"] < sizes["fp32"]
    assert any(share.label == f"8 bits in blocks of 32, {file}" for share in named)
    kept = shares(precision="int8", keep=(file,))
    assert sizes["fp32"] == sum(share.largest_bytes for share in kept if share.label == f"float32, {file}")
