"""Exports the models that the stand-in's checks open: ``python -m tests.stand_in_gpu.models FOLDER``.

A process of its own, in the ordinary environment: exporting needs torch, which the stand-in's environment has not.
"""

from __future__ import annotations

import sys
from pathlib import Path

from tests.runtimes.backends.tensorrt.artifacts import exported
from tests.stand_in_gpu.cases import CASES, CLASSIFIERS, TEXT_TO_TEXT

if __name__ == "__main__":
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    for case in (*CASES, *TEXT_TO_TEXT, *CLASSIFIERS):
        artifact = exported(folder, case.family, case.precision, target="ort-cuda")
        assert artifact.folder.name == case.name, artifact.folder
