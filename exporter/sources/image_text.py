"""Models that read images and texts: their class, and what is needed of them to read images.

Nothing here knows an architecture.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError, JisuError
from jisu.exporter.sources.image_sight import Sight, as_plain_text, sight_of
from jisu.exporter.sources.named_classes import listed_classes, named_architectures
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of
from jisu.exporter.sources.text_part import text_part

if TYPE_CHECKING:
    from pathlib import Path

    import numpy as np
    import numpy.typing as npt
    from transformers import PreTrainedModel

    from jisu.exporter.contract.image_settings import ImageSettings

_EDGE = 64  # of an image that it is watched with
# Of what a processor returns, the arrays that models take; the others it needs for the prompt alone.
_READ = ("pixel_values", "pixel_attention_mask", "image_sizes", "image_grid_thw")


@dataclass(frozen=True, kw_only=True)
class VisionSource:
    """The part of a source that reads images.

    Attributes:
        model: the whole model, in evaluation mode.
        processor: transformers' processor of the checkpoint.
        settings: how a runtime does what the processor does.
        sight: how the model is told which tokens see later ones, where some do.
    """

    model: PreTrainedModel
    processor: Any
    settings: ImageSettings
    sight: Sight | None = None

    def text_part(self) -> PreTrainedModel:
        """What reads texts alone, each of whose tokens sees those before it."""
        part = text_part(self.model)
        return part if self.sight is None else as_plain_text(part, self.sight)


def image_text_class(config: Any) -> Any | None:
    """The transformers class that loads this configuration as a model of images and texts; None when it is none."""
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    listed = listed_classes(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, config)
    if not listed or getattr(config, "is_encoder_decoder", False):
        return None
    named = named_architectures(config)
    return next((one for one in listed if one.__name__ in named), None if named else listed[0])


def note_on_images(config: Any) -> list[str]:
    """What is said of a model with an encoder and a decoder that also reads images, of which its export does not."""
    from transformers import MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING

    listed = listed_classes(MODEL_FOR_IMAGE_TEXT_TO_TEXT_MAPPING, config)
    if not listed or not getattr(config, "is_encoder_decoder", False):
        return []
    return ["It reads texts alone, no images: of a model with an encoder and a decoder only that part is exported."]


def vision_source(model: PreTrainedModel, tokenizer: Any, folder: Path) -> VisionSource:
    """What is needed of a loaded model and its folder to read images.

    Raises:
        InputError: no token stands for images, its processor cannot be loaded or reproduced, or its decoder sees ahead
            by an unknown rule.
        MissingDependencyError: a package that the processor needs is not installed.
    """
    from jisu.exporter.sources.grid_inputs import grid_inputs_of
    from jisu.exporter.sources.image_layout import layout_of
    from jisu.exporter.sources.image_processor import load_processor
    from jisu.exporter.sources.image_ways import find_way, made_images

    token = image_token_of(model.config, folder)
    processor = load_processor(folder, model.config, tokenizer)
    settings = find_way(processor, folder, image_token=token)
    vision = VisionSource(model=model, processor=processor, settings=settings)
    image = made_images(_EDGE)[0]
    with refusing_misfits(processor, model):
        grid = grid_inputs_of(model, lambda: image_output(vision, image))
        sight = sight_of(vision, image)
        layout = layout_of(processor, mark=settings.mark)
    merge = int(settings.settings["merge_size"]) if has_axes(model) else None
    types = None if sight is None else sight.numbers
    return replace(
        vision, settings=replace(settings, grid_inputs=grid, merge=merge, types=types, layout=layout), sight=sight
    )


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
            allowed="a processor that makes what the model reads, with as many marks, of what has any size",
            fix="Download config.json, preprocessor_config.json and processor_config.json of one model.",
        ) from error


def has_axes(model: Any) -> bool:
    """Whether tokens have positions on three axes, as the sections of a rotary embedding say."""
    rope = getattr(model.config.get_text_config(), "rope_parameters", None)
    # One rule for all layers, or one for each kind of them.
    rules = [rope, *rope.values()] if isinstance(rope, dict) else []
    return any(isinstance(rule, dict) and rule.get("mrope_section") is not None for rule in rules)


def image_output(vision: VisionSource, image: npt.NDArray[np.uint8]) -> Any:
    """What the model itself makes of an image uint8 [H, W, 3], as it returns it."""
    import numpy as np
    import torch

    from jisu.exporter.sources.image_processor import process_image

    arrays = process_image(vision.processor, image).arrays
    read = image_features_of(vision.model)
    accepted = dict(inspect.signature(read).parameters)
    inner = getattr(vision.model.base_model, "get_image_features", None)
    if inner is not None:  # the outer one may hand on what it does not name
        accepted |= inspect.signature(inner).parameters
    names = [name for name in arrays if name in _READ or name in accepted]
    missing = [
        name
        for name, one in accepted.items()
        if one.default is one.empty and one.kind is one.POSITIONAL_OR_KEYWORD and name not in names
    ]
    if missing:
        raise InputError(
            f"{type(vision.model).__name__} reads more of an image than its processor gives of one",
            received=", ".join(missing),
            allowed=", ".join(_READ),
            fix="Choose another model.",
        )
    tensors = {name: torch.from_numpy(np.array(arrays[name])) for name in names}
    with torch.inference_mode(), quiet_transformers():
        return read(**tensors, return_dict=True)


def image_features_of(model: Any) -> Callable[..., Any]:
    """What makes features of an image's arrays: of a model itself, or of the one within that has no head.

    Raises:
        InputError: neither has such a thing.
    """
    for part in (model, model.base_model):
        read: Callable[..., Any] | None = getattr(part, "get_image_features", None)
        if read is not None:
            return read
    raise InputError(
        f"{type(model).__name__} does not say what it makes of an image",
        received="no get_image_features",
        allowed="a class of transformers that gives the features of an image by themselves",
        fix="Choose a model that puts image features in the places of one token.",
    )


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
