"""Tries to build a plan of any ONNX file, for whoever narrows down what TensorRT refuses: exit code 0 when it builds.

``python -m runtimes.tensorrt.try_build FILE BACKEND [X.Y]``, the command that Polygraphy's ``debug reduce`` is given.
"""

from __future__ import annotations

import sys
from pathlib import Path

from runtimes.tensorrt.library import Capability, Library, import_library
from runtimes.tensorrt.messages import Messages, logger_into

REFUSED = 1
# Sizes of every dimension that varies: smallest, usual, largest.
_SIZES = (1, 4, 8)


def try_build(path: Path, library: Library, *, capability: Capability | None) -> str | None:
    """What TensorRT says against a file, None where it builds."""
    messages = Messages()
    logger = logger_into(messages, library)
    builder = library.module.Builder(logger)
    network = builder.create_network(0)
    parser = library.module.OnnxParser(network, logger)
    if not parser.parse_from_file(str(path)):
        return messages.shown()
    config, profile = builder.create_builder_config(), builder.create_optimization_profile()
    for index in range(network.num_inputs):
        value = network.get_input(index)
        if -1 in value.shape:
            shapes = [tuple(size if dim == -1 else dim for dim in value.shape) for size in _SIZES]
            profile.set_shape(value.name, *shapes)
    config.add_optimization_profile(profile)
    if capability is not None:
        config.num_compute_capabilities = 1
        known = library.module.ComputeCapability.__members__
        config.set_compute_capability(known[f"SM{capability[0]}{capability[1]}"], 0)
    return None if builder.build_serialized_network(network, config) is not None else messages.shown()


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
