"""Models that read images and texts: their class, and the part of them that reads texts alone.

Nothing here knows an architecture. Which children of a model read images is found out by watching it read two tokens:
those are the ones that a text does not need. The rest is a language model like any other, with the same parameters
under the same names, and everything that concerns texts works on it.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError, JisuError
from jisu.exporter.sources.named_classes import listed_classes, named_architectures
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from transformers import PreTrainedModel

    from jisu.exporter.contract.image_settings import ImageSettings

_WATCHED = 2  # tokens that the model is watched with
_EDGE = 64  # of an image that it is watched with
_UNSEEN = 1e-4  # sd of the logits, that a token may differ by for one that it does not see
# Of what a processor returns, the arrays that models take; the others it needs for the prompt alone.
_READ = ("pixel_values", "pixel_attention_mask", "image_sizes", "image_grid_thw")


@dataclass(frozen=True, kw_only=True)
class VisionSource:
    """The part of a source that reads images.

    Attributes:
        model: the whole model, in evaluation mode.
        processor: transformers' processor of the checkpoint.
        settings: how a runtime does what the processor does.
    """

    model: PreTrainedModel
    processor: Any
    settings: ImageSettings


def image_text_class(config: Any) -> Any | None:
    """The transformers class that loads this configuration as a model of images and texts; None when it is none."""
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    listed = listed_classes(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, config)
    if not listed or getattr(config, "is_encoder_decoder", False):
        return None
    named = named_architectures(config)
    return next((one for one in listed if one.__name__ in named), None if named else listed[0])


def vision_source(model: PreTrainedModel, tokenizer: Any, folder: Path) -> VisionSource:
    """What is needed of a loaded model and its folder to read images.

    Raises:
        InputError: no token stands for images, its processor cannot be loaded or reproduced, or its decoder sees ahead.
        MissingDependencyError: a package that the processor needs is not installed.
    """
    from jisu.exporter.sources.grid_inputs import grid_inputs_of
    from jisu.exporter.sources.image_processor import load_processor
    from jisu.exporter.sources.image_ways import find_way, made_images

    token = image_token_of(model.config, folder)
    processor = load_processor(folder, model.config, tokenizer)
    settings = find_way(processor, folder, image_token=token)
    vision = VisionSource(model=model, processor=processor, settings=settings)
    image = made_images(_EDGE)[0]
    with refusing_misfits(processor, model):
        grid = grid_inputs_of(model, lambda: image_output(vision, image))
        refuse_two_sided(vision, image)
    merge = int(settings.settings["merge_size"]) if has_axes(model) else None
    return replace(vision, settings=replace(settings, grid_inputs=grid, merge=merge))


@contextmanager
def refusing_misfits(processor: Any, model: Any) -> Iterator[None]:
    """Turn what a model raises of what its processor makes of an image into InputError."""
    try:
        yield
    except JisuError:
        raise
    except Exception as error:
        raise InputError(
            f"{type(processor).__name__} and {type(model).__name__} do not fit each other",
            received=reason_of(error),
            allowed="a processor that makes the pixels and as many marks as the model reads, of images of every size",
            fix="Download config.json, preprocessor_config.json and processor_config.json of one model.",
        ) from error


def refuse_two_sided(vision: VisionSource, image: npt.NDArray[np.uint8]) -> None:
    """Raise InputError for a model whose earlier image tokens see later ones, found out by changing the last one."""
    import torch

    from jisu.exporter.sources.image_processor import process_prompt, taken_by
    from jisu.exporter.sources.layers import find_layers

    part: Any = text_part(vision.model)
    stack = find_layers(part)
    if stack is None:
        return
    made = process_prompt(vision.processor, f"{vision.settings.mark} What is it?", [image])
    last = int((made["input_ids"][0] == vision.settings.image_token).nonzero().max())
    arguments = taken_by(vision.model, made)

    def change(module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        hidden = inputs[0] if inputs else options["hidden_states"]
        changed = hidden.clone()
        changed[:, last] = -changed[:, last].flip(-1) + 1
        return ((changed, *inputs[1:]), options) if inputs else (inputs, {**options, "hidden_states": changed})

    first: Any = part.get_submodule(stack.path)[0]
    with torch.inference_mode(), quiet_transformers():
        before = vision.model(**arguments, use_cache=False).logits[0]
        hook = first.register_forward_pre_hook(change, with_kwargs=True)
        try:
            after = vision.model(**arguments, use_cache=False).logits[0]
        finally:
            hook.remove()
    if float((before[:last] - after[:last]).abs().max() / before.std()) > _UNSEEN:
        raise InputError(
            f"{type(vision.model).__name__} lets the tokens of an image see those behind them",
            received="attention in both directions",
            allowed="a decoder whose every token sees only those before it, images included",
            fix="Choose another model; attention of this kind is not exported yet.",
        )


def has_axes(model: Any) -> bool:
    """Whether tokens have positions on three axes, as the sections of a rotary embedding say."""
    rope = getattr(model.config.get_text_config(), "rope_parameters", None) or {}
    return isinstance(rope, dict) and rope.get("mrope_section") is not None


def image_output(vision: VisionSource, image: npt.NDArray[np.uint8]) -> Any:
    """What the model itself makes of an image uint8 [H, W, 3], as it returns it."""
    import numpy as np
    import torch

    from jisu.exporter.sources.image_processor import process_image

    arrays = process_image(vision.processor, image).arrays
    tensors = {name: torch.from_numpy(np.array(arrays[name])) for name in _READ if name in arrays}
    with torch.inference_mode(), quiet_transformers():
        return vision.model.get_image_features(**tensors, return_dict=True)  # type: ignore[operator]


def continues_texts(config: Any) -> bool:
    """Whether transformers also loads such a model for texts alone."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING

    return type(config) in MODEL_FOR_CAUSAL_LM_MAPPING


def image_token_of(config: Any, checkpoint: Path) -> int:
    """The id that stands for a row of image features; raises InputError where the configuration names none."""
    for name in ("image_token_id", "image_token_index"):
        token = getattr(config, name, None)
        if isinstance(token, int) and token < config.get_text_config().vocab_size:
            return token
    raise InputError(
        f"{checkpoint} does not say which token stands for an image",
        received="no image_token_id in config.json, or one without an embedding",
        allowed="a model that puts image features in the places of one token",
        fix="Choose a model that does; image features that go into attention of their own are not supported.",
    )


def text_part(model: PreTrainedModel) -> PreTrainedModel:
    """The same model without the children that read images; parameters and names are shared with it."""
    import torch

    called: set[int] = set()
    hooks = [child.register_forward_pre_hook(lambda module, _: called.add(id(module))) for child in model.modules()]
    try:
        with quiet_transformers(), torch.inference_mode():
            ids = torch.arange(_WATCHED, device=next(model.parameters()).device)[None]
            model(input_ids=ids, use_cache=False)
    finally:
        for hook in hooks:
            hook.remove()
    part = _without_idle_children(model, called)
    # What reads images lies beside the language model, in the model itself or in the one that its head stands on.
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
    return part
