"""Builds the torch model from a configuration and lazily read weights; refuses it unless every weight is there.

Knows nothing of file formats: weights come as objects whose ``[...]`` gives a torch tensor when it is asked for, so
that only the model itself holds all of them.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping
from math import prod
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.named_classes import named_architectures
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of
from jisu.exporter.sources.stored_names import StoredName, missing_weights
from jisu.exporter.sources.stored_weights import LazyWeight

Shape = tuple[int, ...]

_MOST_NAMED = 5


def decoder_class(config: Any, checkpoint: Path) -> Any:
    """The transformers class that loads this configuration as a causal language model.

    Raises:
        InputError: the model is an encoder, has one, or is no language model.
    """
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING

    architectures = named_architectures(config)
    received = _described(config)
    classes: Any = None
    if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING:
        classes = MODEL_FOR_CAUSAL_LM_MAPPING[type(config)]
    # A type that also has a masked head, such as BERT, looks at later tokens unless its config makes it a decoder.
    two_sided = type(config) in MODEL_FOR_MASKED_LM_MAPPING and not getattr(config, "is_decoder", False)
    if classes is None or two_sided or getattr(config, "is_encoder_decoder", False):
        raise InputError(
            f"{checkpoint} is not a language model that can be exported",
            received=received,
            allowed="a model type that continues a text, turns it into another, or is a classifier with its labels",
            fix="Choose a model for text generation, or one whose architecture is ...ForSequenceClassification.",
        )
    return _chosen(classes, architectures)


def text_to_text_class(config: Any) -> Any | None:
    """The transformers class that loads this configuration as an encoder and a decoder; None when it is none."""
    from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

    if not getattr(config, "is_encoder_decoder", False) or type(config) not in MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING:
        return None
    return _chosen(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING[type(config)], named_architectures(config))


def _chosen(classes: Any, architectures: list[str]) -> Any:
    """The class that the configuration names where a mapping knows several."""
    if isinstance(classes, tuple):
        return next((one for one in classes if one.__name__ in architectures), classes[0])
    return classes


def _described(config: Any) -> str:
    return ", ".join([f"model type {config.model_type!r}", *named_architectures(config)])


def build_empty(model_class: Any, config: Any, checkpoint: Path) -> Any:
    """The model without memory for its weights (on torch's meta device)."""
    import torch

    try:
        with quiet_transformers(), torch.device("meta"):
            return model_class(config)
    except Exception as error:
        raise InputError(
            f"The configuration of {checkpoint} does not describe a model that transformers can build",
            received=reason_of(error),
            allowed=f"a consistent configuration of {model_class.__name__}",
            fix="Download or convert the checkpoint again.",
        ) from error


def check_stored(
    empty: Any,
    stored: Mapping[str, Shape],
    matches: Mapping[str, StoredName],
    checkpoint: Path,
    *,
    integers: Collection[str] = (),
) -> None:
    """Compare stored names and shapes with what the model needs, before a single weight is read.

    Weights that transformers merges or splits on the way are compared by name only.

    Args:
        matches: what each stored tensor becomes.
        integers: names of the stored tensors that hold integers; a mask may, a weight may not.

    Raises:
        InputError: names all missing and misshapen weights and those of integers, the first five of each in full.
    """
    needed: dict[str, Shape] = {
        name: tuple(parameter.shape) for name, parameter in empty.named_parameters(remove_duplicate=False)
    }
    misshapen = [
        (target, stored[name], needed[target])
        for name, match in matches.items()
        for target in match.targets
        if not match.converted and target in needed and needed[target] != stored[name]
    ]
    whole = [name for name in integers if any(target in needed for target in matches[name].targets)]
    refuse_incomplete(checkpoint, missing=missing_weights(empty, matches), misshapen=misshapen, integers=whole)


def load_weights(
    model_class: Any, config: Any, weights: Mapping[str, LazyWeight], checkpoint: Path, *, half: Any = None
) -> tuple[Any, list[str]]:
    """Build the model in float32 with these weights, each converted when its turn comes.

    Args:
        half: torch's dtype of the weights that are left in it, see `exporter.sources.half_width`; None for none.

    Returns:
        The model, and the names of stored weights that it has no place for.

    Raises:
        InputError: weights are missing, have another shape than the model needs, or cannot be converted.
    """
    import torch

    try:
        with quiet_transformers():
            model, info = model_class.from_pretrained(
                None,
                config=config,
                state_dict=dict(weights),
                dtype=torch.float32,
                ignore_mismatched_sizes=True,
                output_loading_info=True,
            )
    except (RuntimeError, ValueError, TypeError, KeyError, NotImplementedError, OSError) as error:
        raise InputError(
            f"The weights of {checkpoint} cannot be loaded into {model_class.__name__}",
            received=reason_of(error),
            allowed="weights in the shapes that the configuration asks for",
            fix="Download or convert the checkpoint again.",
        ) from error
    refuse_unfinished(info, checkpoint)
    return finish(model, half), sorted(info["unexpected_keys"])


def refuse_unfinished(info: Mapping[str, Any], checkpoint: Path) -> None:
    """Turn what transformers reports about a finished loading into an error when anything was made up."""
    refuse_incomplete(checkpoint, missing=info["missing_keys"], misshapen=info["mismatched_keys"])


def finish(model: Any, half: Any = None) -> Any:
    """Set eval mode, switch gradients off and make each floating-point parameter float32, but for those of ``half``."""
    import torch

    model.eval()
    model.requires_grad_(False)  # noqa: FBT003
    for parameter in model.parameters():
        if parameter.is_floating_point() and parameter.dtype not in (torch.float32, half):
            parameter.data = parameter.data.to(torch.float32)
    return model


def refuse_incomplete(
    checkpoint: Path,
    *,
    missing: Iterable[str],
    misshapen: Iterable[tuple[str, Iterable[int], Iterable[int]]],
    integers: Iterable[str] = (),
) -> None:
    """Raise InputError that lists weights which are missing or not what they should be; return when there are none."""
    missing = sorted(missing)
    wrong = [f"{name} is {list(stored)} instead of {list(needed)}" for name, stored, needed in sorted(misshapen)]
    problems = []
    if missing:
        problems.append(f"{len(missing)} missing ({shorten(missing)})")
    if wrong:
        problems.append(f"{len(wrong)} of another shape ({shorten(wrong)})")
    if whole := sorted(integers):
        problems.append(f"{len(whole)} of integers ({shorten(whole)})")
    if problems:
        raise InputError(
            f"The weights of {checkpoint} do not fit its configuration",
            received="; ".join(problems),
            allowed="every weight that the configuration asks for, in its shape and in floating-point numbers",
            fix="Download or convert the checkpoint again, with the config.json that belongs to it.",
        )


def shorten(names: list[str]) -> str:
    """The first five entries of a list, and how many more there are."""
    text = ", ".join(names[:_MOST_NAMED])
    return text if len(names) <= _MOST_NAMED else f"{text} and {len(names) - _MOST_NAMED} more"


def count_elements(shape: Iterable[int]) -> int:
    return prod(shape)
