"""Compiles an ONNX graph with TensorRT, for whoever wants a plan and for whoever asks why there can be none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from jisu.runtimes.backends.tensorrt.library import Capability, Library
from jisu.runtimes.backends.tensorrt.messages import Messages, logger_into
from jisu.runtimes.backends.tensorrt.profiles import Profile

# TensorRT's own words for an attention that none of its fused kernels computes.
_NOT_FUSED = "is_decomposable()"


@dataclass(frozen=True, kw_only=True)
class Compiled:
    """What came of a graph.

    Attributes:
        plan: its bytes; None where the library refused the graph, which ``messages`` tell about.
        parsed: whether the parser took it.
        decomposed: whether attention may be computed by single operators.
    """

    plan: Any | None
    parsed: bool
    decomposed: bool
    messages: Messages


def compile_graph(
    library: Library,
    read: Callable[[Any], bool],
    *,
    profiles: Callable[[Any], Sequence[Profile]],
    capability: Capability | None,
    check: Callable[[Any, Messages], None] = lambda network, messages: None,
    configure: Callable[[Any], None] = lambda config: None,
) -> Compiled:
    """Parse a graph and compile it; it is parsed again where attention has no fused kernel.

    Args:
        read: gives the graph to the library's parser; whether it was taken.
        profiles: what a network is built for.
        capability: what TensorRT-RTX builds for; None for the GPU of this machine.
        check: raises for a network that must not be built, or for what was said while it was read.
        configure: changes the builder's configuration.
    """
    decomposed = False
    # Fused attention first: whether there is a kernel depends on the GPU, the float type and the head size.
    for every in (False, True):
        messages = Messages()
        logger = logger_into(messages, library)
        builder = library.module.Builder(logger)
        network = builder.create_network(0)
        parser = library.module.OnnxParser(network, logger)
        if not read(parser):
            return Compiled(plan=None, parsed=False, decomposed=False, messages=messages)
        check(network, messages)
        decomposed = _allow_decomposition(library, network, every=every)
        config = _config(library, builder, profiles(network), capability=capability)
        configure(config)
        plan = builder.build_serialized_network(network, config)
        if plan is not None or not any(_NOT_FUSED in line for line in messages.errors):
            break
    return Compiled(plan=plan, parsed=True, decomposed=decomposed, messages=messages)


def _allow_decomposition(library: Library, network: Any, *, every: bool) -> bool:
    """Let TensorRT compute attention by single operators where it has no kernel; whether it was let.

    In float32 it never has one; of the others ``every`` one is meant.
    """
    module = library.module
    allowed = False
    for index in range(network.num_layers):
        layer = network.get_layer(index)
        if layer.type == module.LayerType.ATTENTION_INPUT and (
            every or layer.get_input(0).dtype == module.DataType.FLOAT
        ):
            layer.__class__ = module.IAttentionInputLayer  # the binding gives every layer as its base class
            layer.attention.decomposable = allowed = True
    return allowed


def _config(library: Library, builder: Any, profiles: Sequence[Profile], *, capability: Capability | None) -> Any:
    config = builder.create_builder_config()
    # On by default, it would round the factors of float32 products to 10 bits: another model than the verified one.
    config.clear_flag(library.module.BuilderFlag.TF32)
    for requested in profiles:
        profile = builder.create_optimization_profile()
        for name, (smallest, usual, largest) in requested.shapes.items():
            profile.set_shape(name, smallest, usual, largest)
        config.add_optimization_profile(profile)
    if capability is not None:
        config.num_compute_capabilities = 1
        known = library.module.ComputeCapability.__members__
        config.set_compute_capability(known[f"SM{capability[0]}{capability[1]}"], 0)
    return config
