"""The layers of a module that run one after another, each on what the one before gives, and nothing else passes.

Calibration layer by layer, int8 matmuls and mixed precision are for such stacks. transformers' decoders are known
to be ones; of anybody else's module it is tried out on a few tokens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.sources.module_kind import is_of_transformers

if TYPE_CHECKING:
    from torch import nn

    from jisu.exporter.sources.layers import LayerStack
    from jisu.exporter.sources.source import Source

_TOKENS = 8
# Of the largest number in a hidden state: walking the layers and running the module make the same calls.
_ROUNDING = 1e-5


def find_stack(module: nn.Module) -> LayerStack | None:
    """The stack of decoder layers, None where there is none."""
    from jisu.exporter.sources.layers import find_layers

    stack = find_layers(module)
    if stack is None or is_of_transformers(module):
        return stack
    return stack if _walks(module, stack.path) else None


def _walks(module: nn.Module, path: str) -> bool:
    """Whether calling the layers in their order gives what each of them gives within the module."""
    from jisu.calibration.model.layer_walk import HiddenStates, inference
    from jisu.calibration.model.whole_sequences import run_whole

    layers: Any = module.get_submodule(path)
    window = np.arange(_TOKENS, dtype=np.int64) % 2
    seen: list[Any] = []

    def keep(_: nn.Module, inputs: Any, output: Any) -> None:
        seen.append(output[0] if isinstance(output, (tuple, list)) else output)

    hooks = [layer.register_forward_hook(keep) for layer in layers]
    try:
        import torch

        with inference(module):
            run_whole(module, torch.from_numpy(window)[None])
            for hook in hooks:
                hook.remove()
            if len(seen) != len(layers) or not all(torch.is_tensor(hidden) and hidden.dim() == 3 for hidden in seen):
                return False
            states = HiddenStates(module, layers[0], [window])
            for number, layer in enumerate(layers):
                actual = states.run(layer, 0)
                if actual.shape != seen[number].shape:
                    return False
                error = (actual - seen[number]).abs().max()
                if not bool(error <= _ROUNDING * seen[number].abs().max()):
                    return False
                states.advance(layer, name=path)
            states.close()
    except Exception:  # noqa: BLE001 - layers that cannot be called alone fail in ways of their own
        return False
    finally:
        for hook in hooks:
            hook.remove()
    return True


def decoder_layers(source: Source) -> Any:
    """The list of decoder layers."""
    return source.module.get_submodule(layers_path(source))


def layers_path(source: Source) -> str:
    """Module path of the list of decoder layers."""
    stack = find_stack(source.module)
    assert stack is not None, "a stack was asked of a module without decoder layers"
    return stack.path
