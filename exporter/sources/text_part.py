"""The part of a model of images or recordings that reads texts alone.

Nothing here knows an architecture. Which children of a model read others is found out by watching it read two tokens:
those are the ones that a text does not need. The rest is a language model like any other, with the same parameters
under the same names, and everything that concerns texts works on it.
"""

from __future__ import annotations

import copy
from typing import TYPE_CHECKING, Any

from jisu.exporter.sources.quiet import quiet_transformers

if TYPE_CHECKING:
    from transformers import PreTrainedModel

_WATCHED = 2  # tokens that the model is watched with


def text_part(model: PreTrainedModel) -> PreTrainedModel:
    """The same model without the children that read images or recordings; parameters and names are shared with it."""
    import torch

    called: set[int] = set()
    hooks = [child.register_forward_pre_hook(lambda module, _: called.add(id(module))) for child in model.modules()]
    try:
        with quiet_transformers(), torch.inference_mode():
            ids = torch.arange(_WATCHED, device=next(model.parameters()).device)[None]
            # Without a cache transformers looks at numbers of positions (5.23), which a model on the meta device lacks.
            model(input_ids=ids, use_cache=ids.is_meta)
    finally:
        for hook in hooks:
            hook.remove()
    part = _without_idle_children(model, called)
    # What reads them lies beside the language model, in the model itself or in the one that its head stands on.
    name = model.base_model_prefix
    if name in part._modules:
        part._modules[name] = _without_idle_children(part._modules[name], called)
    return part  # type: ignore[no-any-return]


def _without_idle_children(module: Any, called: set[int]) -> Any:
    """A module of its own with the children of another one, but for those in which nothing was called."""
    part = copy.copy(module)
    part._modules = {
        name: child
        for name, child in module._modules.items()
        if child is not None and any(id(inner) in called for inner in child.modules())
    }
    # A forward may ask one of the others for its device, and uses none of its numbers: an attribute is no part.
    part.__dict__.update({name: child for name, child in module._modules.items() if name not in part._modules})
    return part
