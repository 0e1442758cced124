"""How a checkpoint makes of sound what its model reads: transformers' own feature extractor, as it was seen to do.

Nothing here knows an architecture: which shapes there are is found out by giving the extractor two recordings.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.audio_settings import AudioSettings
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.placeholders import refuse_placeholder
from jisu.exporter.sources.jsonfile import read_json, refuse_remote_code
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    Samples = npt.NDArray[np.float32]

PREPROCESSOR_FILES = ("preprocessor_config.json", "processor_config.json")
# Recordings that the extractor is given: in seconds, neither a multiple of the other.
_SECONDS = (1.0, 1.7)
# Bands of a spectrogram, samples of a window and a step, seconds, samples a second.
_LARGEST = {
    "feature_size": 1 << 14,
    "num_mel_bins": 1 << 14,
    "n_fft": 1 << 16,
    "hop_length": 1 << 20,
    "chunk_length": 1 << 13,
    "sampling_rate": 1 << 20,
}


@dataclass(frozen=True, kw_only=True)
class AudioSource:
    """A feature extractor of transformers and the settings that follow from it and from its model.

    Attributes:
        fills: it puts frames of zeros behind those of a recording, which are none of its features here.
    """

    extractor: Any
    settings: AudioSettings
    fills: bool = False

    def filled(self, samples: Samples) -> Samples:
        """The recording, with silence behind it up to the shortest that the model reads, or to its window."""
        import numpy as np

        missing = max(self.settings.window or 0, self.settings.shortest) - len(samples)
        return samples if missing <= 0 else np.pad(samples, (0, missing))

    def features(self, samples: Samples) -> Samples:
        """What the extractor makes of one recording: float32 [1, ...]. Whole, however long it is.

        A recording that is shorter than the model's window is filled up to it.
        """
        import numpy as np

        samples = self.filled(samples)
        whole = len(samples) > (self.settings.window or 0)
        made = extracted(self.extractor, samples, self.settings, whole=whole)
        if not self.fills:
            return made
        axis = 1 + self.settings.dims.index(None)
        own, behind = np.split(made, [len(samples) // self.settings.hop], axis=axis)
        return made if behind.any() else np.ascontiguousarray(own)


def read_extractor(folder: Path) -> Any:
    """The feature extractor of a folder; nothing of the folder is executed.

    Raises:
        InputError: there is none, or it is none that transformers knows.
    """
    paths = [folder / name for name in PREPROCESSOR_FILES if (folder / name).is_file()]
    if not paths:
        raise InputError(
            f"{folder} does not say how sound is made into what its model reads",
            received="no preprocessor_config.json",
            allowed="a folder with the configuration of its feature extractor",
            fix="Download preprocessor_config.json of the model as well.",
        )
    for path in paths:
        refuse_placeholder(path)
        stated = read_json(path)
        refuse_remote_code(stated, path)
        _check_sizes(stated, path)
    from transformers import AutoFeatureExtractor

    try:
        with quiet_transformers():
            extractors: Any = AutoFeatureExtractor
            return extractors.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise InputError(
            f"{paths[0]} does not describe a feature extractor",
            received=reason_of(error),
            allowed="what transformers' feature extractors of sound write",
            fix="Download the file again.",
        ) from error


def _check_sizes(stated: Mapping[str, Any], path: Path) -> None:
    """Raise InputError for sizes that no extractor has, before filters and windows of these sizes are made."""
    parts = [stated, *(part for part in stated.values() if isinstance(part, dict))]
    beyond = [
        f"{name} {value}"
        for part in parts
        for name, largest in _LARGEST.items()
        if isinstance(value := part.get(name), (int, float)) and not 0 <= value <= largest
    ]
    if beyond:
        raise InputError(
            f"{path} has sizes that no feature extractor can have",
            received=", ".join(beyond),
            allowed=", ".join(f"{name} up to {largest}" for name, largest in _LARGEST.items()),
            fix="Download the file again.",
        )


def observed_settings(extractor: Any, input_name: str, **more: Any) -> AudioSettings:
    """What the extractor was seen to do with two recordings; ``more`` are the settings that are the model's.

    Raises:
        InputError: it makes nothing that the model reads, or nothing whose length can be told.
    """
    rate = getattr(extractor, "sampling_rate", None)
    if not isinstance(rate, int) or rate < 1:
        raise _unknown(extractor, f"a sampling rate of {rate!r}")
    window = getattr(extractor, "n_samples", None)
    drafted = AudioSettings(
        sampling_rate=rate,
        input_name=input_name,
        dims=(),
        window=None,
        shortest=max(1, rate // 10),
        hop=1,
        **more,
    )
    lengths = [int(rate * seconds) for seconds in _SECONDS]
    shapes = [extracted(extractor, _noise(length), drafted, whole=False).shape[1:] for length in lengths]
    if len(shapes[0]) != len(shapes[1]):
        raise _unknown(extractor, f"shapes {shapes}")
    differing = [axis for axis, sizes in enumerate(zip(*shapes, strict=True)) if sizes[0] != sizes[1]]
    dims: list[int | None] = list(shapes[0])
    if not differing:
        if not isinstance(window, int) or window < 1:
            raise _unknown(extractor, f"shape {list(dims)} for recordings of any length, and no n_samples")
        longer = extracted(extractor, _noise(window + window // 2), drafted, whole=True).shape[1:]
        differing = [axis for axis, (one, other) in enumerate(zip(dims, longer, strict=True)) if one != other]
        if len(differing) != 1:
            raise _unknown(extractor, f"shape {list(longer)} for a longer recording")
        frames = dims[differing[0]] or 1
        return replace(drafted, dims=tuple(dims), window=window, hop=window // frames)
    if len(differing) != 1:
        raise _unknown(extractor, f"shapes {shapes}")
    axis = differing[0]
    hop = (lengths[1] - lengths[0]) / (shapes[1][axis] - shapes[0][axis])
    dims[axis] = None
    return replace(drafted, dims=tuple(dims), window=None, hop=max(1, round(hop)))


def extracted(extractor: Any, samples: Samples, settings: AudioSettings, *, whole: bool) -> Samples:
    """float32 [1, ...] of one recording.

    Args:
        whole: do not cut or fill up to a window.

    Raises:
        InputError: the extractor fails, or gives nothing under the name that the model reads.
    """
    import numpy as np

    options: dict[str, Any] = {"truncation": False, "padding": "longest"} if whole else {}
    try:
        with quiet_transformers():
            output = extractor(samples, sampling_rate=settings.sampling_rate, return_tensors="np", **options)
    except Exception as error:
        raise _unknown(extractor, reason_of(error)) from error
    if settings.input_name not in output:
        raise _unknown(extractor, f"{', '.join(output)} where the model reads {settings.input_name}")
    return np.ascontiguousarray(output[settings.input_name], dtype=np.float32)


def _noise(samples: int) -> Samples:
    import numpy as np

    return np.asarray(np.random.default_rng(0).normal(0, 0.1, samples), np.float32)


def _unknown(extractor: Any, received: str) -> InputError:
    return InputError(
        f"What {type(extractor).__name__} makes of sound cannot be exported",
        received=received,
        allowed="one array of features whose length grows with the recording, or is that of a window",
        fix="Choose a model whose feature extractor makes a spectrogram, or reads the samples.",
    )
