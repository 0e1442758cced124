"""transformers' processor of a checkpoint: what makes pixels of images, and marks of images in a prompt.

It is only asked, so that what a runtime does can be compared with it. Its videos are nobody's concern here, and what
would prepare them, which needs further packages, is left out.
"""

from __future__ import annotations

import contextlib
import copy
import inspect
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError, MissingDependencyError
from jisu.exporter.sources.jsonfile import read_json, refuse_remote_code
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_TORCHVISION = "TorchvisionBackend"  # what such classes are made of (transformers 5.23)
# Read as they are, where they are there.
PROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")


@dataclass(frozen=True, kw_only=True)
class ProcessedImage:
    """What the processor made of one image: arrays by name, the text for its mark, and the settings that it had."""

    arrays: dict[str, npt.NDArray[Any]]
    text: str
    settings: dict[str, Any]


def load_processor(folder: Path, config: Any, tokenizer: Any) -> Any:
    """The processor of a folder, around a copy of its tokenizer, preparing images with Pillow.

    Raises:
        InputError: there is none, it is broken, or it wants to run code of the checkpoint.
        MissingDependencyError: a package that it needs is not installed.
    """
    present = [name for name in PROCESSOR_FILES if (folder / name).is_file()]
    for name in present:
        refuse_remote_code(read_json(folder / name), folder / name)
    if not present or tokenizer is None:
        raise InputError(
            f"{folder} does not say how its images are prepared",
            received=", ".join(present) or f"none of {', '.join(PROCESSOR_FILES)}",
            allowed="preprocessor_config.json, and a tokenizer",
            fix="Download the files that lie beside the weights.",
        )
    try:
        from transformers import AutoImageProcessor

        automatic: Any = AutoImageProcessor
        with quiet_transformers(), without_videos():
            kind = processor_class(folder, config)
            images = automatic.from_pretrained(
                str(folder), backend="pil", local_files_only=True, trust_remote_code=False
            )
            _refuse_torchvision(images, folder)
            parts = {"image_processor": images, "tokenizer": copy.deepcopy(tokenizer)}
            settings, _ = kind.get_processor_dict(str(folder), local_files_only=True)
            listed = [parts.get(name, NO_VIDEOS if "video" in name else None) for name in kind.get_attributes()]
            processor = kind.from_args_and_dict(listed, settings)
            for name in kind.get_attributes():
                if getattr(processor, name, None) is NO_VIDEOS:
                    setattr(processor, name, None)
    except ImportError as error:
        if error.name == "PIL":
            raise MissingDependencyError("pillow", extra="images", needed_for=str(folder)) from error
        raise InputError(
            f"The image processor of {folder} is made of packages that are not installed",
            received=error.name or reason_of(error),
            allowed="all packages that its class of transformers imports",
            fix="Install it for the export: pip install torchvision, in the version for your torch. Running the model "
            "does not need it.",
        ) from error
    except InputError:
        raise
    except Exception as error:
        raise InputError(
            f"The image processor of {folder} cannot be loaded",
            received=reason_of(error),
            allowed="a processor that is part of transformers, with all its files",
            fix="Download preprocessor_config.json, processor_config.json and the tokenizer again.",
        ) from error
    return processor


def _refuse_torchvision(images: Any, folder: Path) -> None:
    """Raise InputError for a class that prepares images with torchvision, whose resizing is no Pillow's."""
    if any(kind.__name__ == _TORCHVISION for kind in type(images).__mro__):
        raise InputError(
            f"The images of {folder} are prepared with torchvision alone",
            received=f"{type(images).__name__}, of which transformers has no form for Pillow",
            allowed="a class that prepares images with Pillow, which is what runs beside the model",
            fix="Choose another model.",
        )


def process_image(processor: Any, image: Any) -> ProcessedImage:
    """Let the processor prepare one image, uint8 [H, W, 3] or one of Pillow.

    Raises:
        InputError: it fails.
    """
    import numpy as np
    from PIL import Image

    used: dict[str, Any] = {}
    images = processor.image_processor
    own = images._preprocess

    def listen(*arguments: Any, **options: Any) -> Any:
        used.update(options)
        return own(*arguments, **options)

    options = dict(processor._merge_kwargs(tokenizer_init_kwargs=processor.tokenizer.init_kwargs)["images_kwargs"])
    options["return_tensors"] = "pt"  # as its own call has it; some read the tensors to count tokens
    images._preprocess = listen
    try:
        with quiet_transformers():
            picture: Any = Image.fromarray(image) if isinstance(image, np.ndarray) else image
            made, texts = processor._process_images([picture], **options)
    except Exception as error:
        raise _fails(processor, error) from error
    finally:
        del images._preprocess
    if not texts:
        raise _fails(processor, NotImplementedError())  # without a mark of its own it has nothing to replace
    arrays = {name: _array(value) for name, value in made.items()}
    return ProcessedImage(arrays=arrays, text=texts[0], settings=_plain(used))


def _array(value: Any) -> npt.NDArray[Any]:
    """A tensor or a list of numbers as numpy has it, half numbers as float32."""
    import numpy as np
    import torch

    if isinstance(value, torch.Tensor):
        value = value.float() if value.dtype == torch.bfloat16 else value
        return np.asarray(value)
    return np.asarray(value)


def process_prompt(processor: Any, text: str, images: Sequence[npt.NDArray[np.uint8]]) -> dict[str, Any]:
    """Tensors of a text with marks and its images, uint8 [H, W, 3] each, by their names.

    Raises:
        InputError: the processor fails.
    """
    from PIL import Image

    pictures = [Image.fromarray(one) for one in images]
    try:
        with quiet_transformers():
            return dict(processor(images=pictures, text=text, return_tensors="pt"))
    except Exception as error:
        raise _fails(processor, error) from error


def _fails(processor: Any, error: Exception) -> InputError:
    if isinstance(error, NotImplementedError):  # transformers' own, of what a class leaves out (5.23)
        return InputError(
            f"{type(processor).__name__} does not say what it writes in the place of one image",
            received="a processor that writes marks of images in its own call alone",
            allowed="a processor of transformers that gives the text for an image",
            fix="Choose a model whose images are prepared in such a way.",
        )
    return InputError(
        f"{type(processor).__name__} cannot prepare images with the settings of the checkpoint",
        received=reason_of(error),
        allowed="a processor and settings that prepare an image of any size alone, without a prompt of the model's own",
        fix="Download preprocessor_config.json and processor_config.json again, or choose another model.",
    )


def taken_by(model: Any, made: dict[str, Any]) -> dict[str, Any]:
    """Those of a processor's tensors that a model's forward reads; what it is to learn is none of them."""
    accepted = inspect.signature(model.forward).parameters
    return {name: value for name, value in made.items() if name in accepted and name != "labels"}


def processor_class(folder: Path, config: Any) -> Any:
    """The class that the folder names, or else that of its model type."""
    import transformers
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING

    for name in reversed(PROCESSOR_FILES):
        named = read_json(folder / name).get("processor_class") if (folder / name).is_file() else None
        if isinstance(named, str) and (kind := getattr(transformers, named, None)) is not None:
            return itself(kind)
    return itself(PROCESSOR_MAPPING[type(config)])


def itself(kind: Any) -> Any:
    """A class where transformers has something in its place that only says what is not installed.

    Some name packages that only the other form of their image processor needs.
    """
    if not getattr(kind, "is_dummy", False):
        return kind
    family = kind.__name__.removesuffix("Processor").lower()
    try:
        return getattr(import_module(f"transformers.models.{family}.processing_{family}"), kind.__name__)
    except (ImportError, AttributeError):
        return kind


class NoVideos(dict[str, Any]):
    """Stands in for what prepares videos: some processors read its settings when they are made, all write them."""

    def __getattr__(self, name: str) -> None:
        if name.startswith("__"):
            raise AttributeError(name)
        return


NO_VIDEOS = NoVideos()


@contextlib.contextmanager
def without_videos() -> Iterator[None]:
    """Let a processor be made without parts (transformers 5.23 asks every part for its class)."""
    from transformers import ProcessorMixin

    mixin: Any = ProcessorMixin
    own = mixin.check_argument_for_proper_class

    def check(self: Any, name: str, argument: Any) -> Any:
        return None if argument is None or argument is NO_VIDEOS else own(self, name, argument)

    mixin.check_argument_for_proper_class = check
    try:
        yield
    finally:
        mixin.check_argument_for_proper_class = own


def _plain(options: dict[str, Any]) -> dict[str, Any]:
    """What JSON can hold of the settings."""
    from dataclasses import asdict, is_dataclass

    plain: dict[str, Any] = {}
    for name, value in options.items():
        if is_dataclass(value) and not isinstance(value, type):
            value = {key: size for key, size in asdict(value).items() if size is not None}
        if isinstance(value, tuple):
            value = list(value)
        if hasattr(value, "value") and isinstance(value.value, int):  # an enumeration of filters
            value = int(value.value)
        if value is None or isinstance(value, (bool, int, float, str, list, dict)):
            plain[name] = value
    return plain
