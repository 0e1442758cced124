"""Transposed linear layers -> `nn.Linear`: the same numbers in the layout that everything else here knows.

transformers' models of GPT-2's kin store a product's weight [K, N] in a class of their own; left so, nothing would
quantize it.
"""

from __future__ import annotations

from typing import Any


def use_linear_layers(model: Any) -> int:
    """Exchange every such layer, one at a time, also on torch's meta device; returns how many.

    Args:
        model: of transformers; changed in place. Parameter names stay, weights become [N, K].
    """
    import torch
    from torch import nn
    from transformers.pytorch_utils import Conv1D

    convolutions = [(name, module) for name, module in model.named_modules() if isinstance(module, Conv1D)]
    for name, module in convolutions:
        features, rows = module.weight.shape
        linear = nn.Linear(features, rows, bias=module.bias is not None, device="meta")
        with torch.no_grad():
            linear.weight = nn.Parameter(module.weight.t().contiguous(), requires_grad=False)
            if module.bias is not None:
                linear.bias = module.bias
        linear.train(module.training)
        parent, _, child = name.rpartition(".")
        setattr(model.get_submodule(parent), child, linear)
    return len(convolutions)
