"""CUDA's own libraries, which onnxruntime-gpu is linked with and does not bring.

They come with NVIDIA's packages (the extra ``cuda`` names them) or with a CUDA toolkit. The package finds those of
NVIDIA's packages only when it is asked to, and prints what it does not find.
"""

from __future__ import annotations

import contextlib
import io
import re
from typing import Any

from jisu.exporter.contract.errors import InputError

# One of the package's two lines about each library: with the path of a file, or with the bare name.
_MISSING = re.compile(r"^Failed to load (?P<library>[^/\s]+\.(?:so|dll)[.\d]*): ", re.MULTILINE)


def load_cuda_libraries(onnxruntime: Any) -> None:
    """Load them into this process; raises InputError naming those that are nowhere."""
    missing = missing_libraries(onnxruntime)
    if missing:
        raise InputError(
            "ONNX Runtime cannot use the GPU without CUDA's libraries",
            received=f"no {', '.join(missing)}",
            allowed="NVIDIA's packages, or a CUDA toolkit that the system finds",
            fix="pip install 'jisu[cuda]'.",
        )


def missing_libraries(onnxruntime: Any) -> tuple[str, ...]:
    """Load the libraries; returns the names of those that are nowhere, optional ones (cuDNN) left out."""
    said = io.StringIO()
    with contextlib.redirect_stdout(said):
        onnxruntime.preload_dlls()
    return tuple(match["library"] for match in _MISSING.finditer(said.getvalue()))
