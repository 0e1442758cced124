"""ONNX Runtime without its telemetry, which its Linux and macOS packages have had since 1.29.

Left on, importing the package writes a device id below the user's cache folder, and what sessions do is kept there and
sent to the vendor. The variable has to be set before the first import, and nothing else prevents all of it
(onnxruntime pull request 27379).
"""

from __future__ import annotations

import os
from importlib import import_module
from typing import Any

OPT_OUT = "ORT_DISABLE_TELEMETRY"


def import_onnxruntime() -> Any:
    """The package `onnxruntime`; whoever imported it before us has decided for this process.

    Raises:
        ImportError: it is not installed, or cannot be loaded.
    """
    os.environ[OPT_OUT] = "1"
    return import_module("onnxruntime")
