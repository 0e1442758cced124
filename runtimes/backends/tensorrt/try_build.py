"""Tries to build a plan of any ONNX file, for whoever narrows down what TensorRT refuses: exit code 0 when it builds.

``python -m runtimes.backends.tensorrt.try_build FILE BACKEND [X.Y]``, the command that Polygraphy's
``debug reduce`` is given.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from jisu.runtimes.backends.tensorrt.compilation import compile_graph
from jisu.runtimes.backends.tensorrt.library import Capability, Library, import_library
from jisu.runtimes.backends.tensorrt.profiles import Profile

REFUSED = 1
# Sizes of every dimension that varies: smallest, usual, largest.
_SIZES = (1, 4, 8)


def try_build(path: Path, library: Library, *, capability: Capability | None) -> str | None:
    """What TensorRT says against a file, None where it builds."""
    compiled = compile_graph(
        library,
        lambda parser: bool(parser.parse_from_file(str(path))),
        profiles=lambda network: (_profile(network),),
        capability=capability,
    )
    return compiled.messages.shown() if compiled.plan is None else None


def _profile(network: Any) -> Profile:
    inputs = [network.get_input(index) for index in range(network.num_inputs)]
    sizes = {
        value.name: tuple(tuple(size if dim == -1 else dim for dim in value.shape) for size in _SIZES)
        for value in inputs
        if -1 in value.shape
    }
    return Profile(name="any", shapes=sizes)  # type: ignore[arg-type]


def main(words: list[str]) -> int:
    path, backend, *more = words
    capability = None
    if more:
        major, minor = more[0].split(".")
        capability = (int(major), int(minor))
    reason = try_build(Path(path), import_library(backend), capability=capability)
    if reason is None:
        return 0
    sys.stdout.write(f"{reason}\n")
    return REFUSED


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
