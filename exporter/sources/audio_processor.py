"""transformers' processor of a checkpoint: what makes features of recordings, and marks of recordings in a prompt.

It is only asked, so that what a runtime does can be compared with it.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.audio import read_extractor
from jisu.exporter.sources.image_processor import processor_class, without_videos
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

# What transformers calls the part that makes features (5.23).
_EXTRACTORS = ("feature_extractor", "audio_processor")


def load_audio_processor(folder: Path, config: Any, tokenizer: Any) -> Any:
    """The processor of a folder, around a copy of its tokenizer, without what prepares images and videos.

    Raises:
        InputError: there is none, it is broken, or it wants to run code of the checkpoint.
    """
    if tokenizer is None:
        raise InputError(
            f"{folder} has no tokenizer, which prompts with recordings need",
            received="no tokenizer.json",
            allowed="the tokenizer beside the weights",
            fix="Download the files that lie beside the weights.",
        )
    extractor = read_extractor(folder)
    try:
        with quiet_transformers(), without_videos():
            kind = processor_class(folder, config)
            parts = dict.fromkeys(_EXTRACTORS, extractor) | {"tokenizer": copy.deepcopy(tokenizer)}
            settings, _ = kind.get_processor_dict(str(folder), local_files_only=True)
            settings = {name: value for name, value in settings.items() if name not in parts}
            return kind.from_args_and_dict([parts.get(name) for name in kind.get_attributes()], settings)
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The processor of {folder}, which prepares recordings, cannot be loaded",
            received=reason_of(error),
            allowed="a processor that is part of transformers, with all its files and all packages that it imports",
            fix="Download preprocessor_config.json, processor_config.json and the tokenizer again.",
        ) from error


def extractor_of(processor: Any) -> Any:
    """The part of a processor that makes features."""
    return next(part for name in _EXTRACTORS if (part := getattr(processor, name, None)) is not None)


def process_recordings(processor: Any, text: str, recordings: Sequence[Samples], rate: int) -> dict[str, Any]:
    """Tensors of a text with marks and its recordings, float32 [samples] each, by their names.

    Raises:
        InputError: the processor fails.
    """
    try:
        with quiet_transformers():
            made = processor(text=text, audio=list(recordings), sampling_rate=rate, return_tensors="pt")
    except Exception as error:
        raise _fails(processor, error) from error
    return dict(made)


def text_for(processor: Any, samples: Samples, rate: int) -> str:
    """The text that the processor writes in the place of a recording's mark.

    Raises:
        InputError: it does not say it.
    """
    try:
        with quiet_transformers():
            options = processor._merge_kwargs(
                tokenizer_init_kwargs=processor.tokenizer.init_kwargs, sampling_rate=rate, return_tensors="pt"
            )["audio_kwargs"]
            _, texts = processor._process_audio([samples], **options)
    except Exception as error:
        raise _fails(processor, error) from error
    if len(texts) != 1 or not isinstance(texts[0], str):
        raise _fails(processor, NotImplementedError())
    return texts[0]


def _fails(processor: Any, error: Exception) -> InputError:
    if isinstance(error, NotImplementedError):  # transformers' own, of what a class leaves out (5.23)
        return InputError(
            f"{type(processor).__name__} does not say what it writes in the place of one recording",
            received="a processor that writes marks of recordings in a way of its own",
            allowed="a processor of transformers that gives the text for a recording",
            fix="Choose a model whose recordings are prepared in such a way.",
        )
    return InputError(
        f"{type(processor).__name__} cannot prepare recordings with the settings of the checkpoint",
        received=reason_of(error),
        allowed="settings with which it prepares recordings of any length",
        fix="Download preprocessor_config.json and processor_config.json again.",
    )
