"""Plans as gzip files in which only what shrinks is compressed: kernels, which are source text, and not the weights.

Of a plan of the 135M model in fp16 that is a tenth, done in a second; `gunzip` gives what TensorRT's own tools read.
"""

from __future__ import annotations

import gzip
import io
import zlib
from itertools import groupby
from typing import Any

from jisu.exporter.contract.errors import InputError

_CHUNK = 1 << 18
_SAMPLE = 1 << 12
_WORTH_IT = 0.6  # of a sample's size; weights in half shrink to 0.9, kernels to 0.1
_GZIP = 16 + zlib.MAX_WBITS
_STORED, _FAST, _SMALL = 0, 1, 6  # zlib's levels


def pack_plan(plan: Any) -> bytes:
    """A plan's bytes as a gzip file whose members (RFC 1952 2.2) are alternately compressed and stored."""
    data = memoryview(plan)
    chunks = [data[start : start + _CHUNK] for start in range(0, data.nbytes, _CHUNK)]
    packed = bytearray()
    for shrinks, run in groupby(chunks, key=_shrinks):
        member = zlib.compressobj(_SMALL if shrinks else _STORED, zlib.DEFLATED, _GZIP)
        for chunk in run:
            packed += member.compress(chunk)
        packed += member.flush()
    return bytes(packed)


def _shrinks(chunk: memoryview) -> bool:
    middle = len(chunk) // 2
    sample = bytes(chunk[:_SAMPLE]) + bytes(chunk[middle : middle + _SAMPLE])
    return len(zlib.compress(sample, _FAST)) < _WORTH_IT * len(sample)


def unpack_plan(packed: bytes) -> bytes:
    """The plan's bytes; raises InputError for what `pack_plan` did not write."""
    try:
        # Not gzip.decompress, which copies the rest of the file behind each member.
        with gzip.open(io.BytesIO(packed)) as members:
            return members.read()
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(
            "The plan cannot be unpacked",
            received=error,
            allowed="a file of `jisu build`",
            fix="Delete it and build it again: jisu build ARTIFACT --backend NAME --out FOLDER.",
        ) from error
