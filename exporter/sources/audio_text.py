"""Models that read recordings and texts: their class, and what is needed of them to hear.

Nothing here knows an architecture.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.audio import AudioSource, observed_settings
from jisu.exporter.sources.audio_processor import extractor_of, load_audio_processor, process_recordings
from jisu.exporter.sources.image_processor import taken_by
from jisu.exporter.sources.image_sight import sees_ahead
from jisu.exporter.sources.image_text import refusing_misfits
from jisu.exporter.sources.named_classes import listed_classes, named_architectures
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.text_part import text_part
from jisu.exporter.sources.tokenizer import check_template

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from transformers import PreTrainedModel

    from jisu.exporter.contract.recording_settings import RecordingSettings
    from jisu.exporter.sources.recording_windows import RecordingWindows

    Samples = npt.NDArray[np.float32]

# What transformers calls features of sound in a model's forward (5.23).
_INPUTS = ("input_features", "input_values", "audio_input_features")
_LONGER = 2.4  # windows of a recording that has several
_SAME = 1e-4  # sd of the rows, that sums in another order differ by at most
_WATCHED = 0.7  # of a window or second, of the recording that it is watched with


@dataclass(frozen=True, kw_only=True)
class HearingSource:
    """The part of a source that hears.

    Attributes:
        model: the whole model, in evaluation mode.
        processor: transformers' processor of the checkpoint.
        audio: how its features are made.
        settings: how a runtime does what the processor does.
        windows: of rows that see each other; None where all do that the graph itself does not part.
    """

    model: PreTrainedModel
    processor: Any
    audio: AudioSource
    settings: RecordingSettings
    windows: RecordingWindows | None = None

    def text_part(self) -> PreTrainedModel:
        """What reads texts alone."""
        return text_part(self.model)

    @cached_property
    def layers(self) -> Any:
        """Those of the decoder."""
        return layers_of(self.model)

    def inputs(self, text: str, recordings: Sequence[Samples]) -> dict[str, Any]:
        """What the processor makes of a text with marks and its recordings."""
        return process_recordings(self.processor, text, recordings, self.audio.settings.sampling_rate)

    def arrays(self, samples: Samples) -> dict[str, npt.NDArray[Any]]:
        """What the processor makes of one recording for the model, besides tokens."""
        rate = self.audio.settings.sampling_rate
        from jisu.exporter.sources.recording_ways import arrays_of

        return arrays_of(self.processor, self.settings.mark, samples, rate, lambda made: taken_by(self.model, made))

    def rows(self, samples: Samples, window: int | None = None) -> npt.NDArray[np.float32]:
        """Rows of features of one recording by the model itself, float32 [rows, features].

        Args:
            window: heard without the others; None for all of them at once.
        """
        import torch

        from jisu.exporter.sources.entering_rows import entering_rows

        made = taken_by(self.model, self.inputs(self.settings.mark, [samples]))
        if window is not None:
            names = (self.audio.settings.input_name, self.settings.mask)
            made |= {name: made[name][window : window + 1] for name in names if name is not None}
        with torch.inference_mode(), quiet_transformers():
            rows: npt.NDArray[np.float32] = entering_rows(self.model, self.layers, made).numpy()
        return rows


def audio_text_class(config: Any) -> Any | None:
    """The transformers class that loads this configuration as a model of recordings and texts; None when it is none."""
    from transformers import MODEL_FOR_MULTIMODAL_LM_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING

    if getattr(config, "is_encoder_decoder", False):
        return None
    named = named_architectures(config)
    for mapping in (MODEL_FOR_MULTIMODAL_LM_MAPPING, MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING):
        listed = [one for one in listed_classes(mapping, config) if "audio" in _modalities(one)]
        chosen = next((one for one in listed if not named or one.__name__ in named), None)
        if chosen is not None:
            return chosen
    return next((one for name in named if (one := _unlisted_class(name, config)) is not None), None)


def _unlisted_class(name: str, config: Any) -> Any | None:
    """A class of transformers that reads recordings and generates, and that no table has for this configuration."""
    import transformers

    kind = getattr(transformers, name, None)
    if not isinstance(kind, type) or not issubclass(kind, transformers.PreTrainedModel):
        return None
    generates = issubclass(kind, transformers.GenerationMixin) and kind.config_class is type(config)
    return kind if generates and {"audio", "text"} <= set(_modalities(kind)) else None


def _modalities(kind: Any) -> Sequence[str]:
    """What transformers says that a class reads."""
    stated = getattr(kind, "input_modalities", None) or ()
    return [stated] if isinstance(stated, str) else list(stated)


def hearing_source(model: PreTrainedModel, tokenizer: Any, folder: Path) -> HearingSource:
    """What is needed of a loaded model and its folder to hear.

    Raises:
        InputError: no token stands for sound, its processor cannot be loaded or reproduced, its features are made in an
            unknown way, or its decoder lets the tokens of a recording see those behind them.
    """
    import inspect

    from jisu.exporter.sources.feature_ways import features_of
    from jisu.exporter.sources.recording_ways import as_processed, find_way, made_recording
    from jisu.exporter.sources.recording_windows import listen_for_windows

    token = audio_token_of(model.config, folder)
    processor = load_audio_processor(folder, model.config, tokenizer)
    _take_template(processor, tokenizer, folder)
    accepted = inspect.signature(model.forward).parameters
    name = next((one for one in _INPUTS if one in accepted), None)
    if name is None:
        raise InputError(
            f"{type(model).__name__} reads recordings in a way that is not known",
            received=", ".join(accepted),
            allowed=", ".join(_INPUTS),
            fix="Choose another model.",
        )
    extractor = extractor_of(processor)
    audio = AudioSource(extractor=extractor, settings=observed_settings(extractor, name, writes="tokens"))
    audio = as_processed(audio, processor, lambda made: taken_by(model, made))
    settings = find_way(
        processor,
        folder,
        audio=audio.settings,
        features=features_of(audio),
        reads=lambda made: taken_by(model, made),
        audio_token=token,
    )
    hearing = HearingSource(model=model, processor=processor, audio=audio, settings=settings)
    samples = made_recording(round(_WATCHED * (audio.settings.window or audio.settings.sampling_rate)))
    if not _takes_two(hearing, samples):
        hearing = replace(hearing, settings=replace(settings, most=1))
    with refusing_misfits(processor, model):
        window = audio.settings.window
        if window is not None and settings.preparation in ("each-window", "joined-windows"):
            longer, whole = made_recording(round(_LONGER * window)), hearing
            separate = heard_separately(lambda one: whole.rows(longer, one), windows=-(-len(longer) // window))
            hearing = replace(hearing, settings=replace(hearing.settings, separate=separate))
        rate, plain = audio.settings.sampling_rate, hearing
        windows = listen_for_windows(model, lambda seconds: plain.rows(made_recording(int(seconds * rate))))
        hearing = replace(hearing, windows=windows)
        made = taken_by(model, hearing.inputs(f"A {settings.mark} What?", [samples]))
        if sees_ahead(model, settings.audio_token, made):
            raise InputError(
                f"{type(model).__name__} lets the tokens of a recording see those behind them",
                received="attention in both directions",
                allowed="tokens that see those before them",
                fix="Choose another model; attention of this kind is not exported for recordings yet.",
            )
    return hearing


def heard_separately(rows: Callable[[int | None], npt.NDArray[np.float32]], *, windows: int) -> bool:
    """Whether windows give the same rows each for itself as all at once.

    Args:
        rows: of the window of this number, or of all of them for None.
    """
    import numpy as np

    together = rows(None)
    each = np.concatenate([rows(number) for number in range(windows)])
    return each.shape == together.shape and bool(np.abs(each - together).max() <= _SAME * together.std())


def _take_template(processor: Any, tokenizer: Any, folder: Path) -> None:
    """Give a tokenizer that has no chat template its processor's, which conversations with recordings are written by.

    Raises:
        InputError: that template does not write a prompt.
    """
    template = getattr(processor, "chat_template", None)
    if not tokenizer.chat_template and isinstance(template, str):
        tokenizer.chat_template = template
        check_template(tokenizer, folder)


def _takes_two(hearing: HearingSource, samples: Samples) -> bool:
    """Whether the processor takes two recordings in one prompt; some take one."""
    mark = hearing.settings.mark
    try:
        ids = hearing.inputs(f"{mark} and {mark}", [samples, samples])["input_ids"]
    except InputError:
        return False
    return len(ids) == 1


def layers_of(model: Any) -> Any:
    """The decoder's layers; raises InputError where they are not a row of like modules."""
    from jisu.exporter.sources.layers import find_layers

    part: Any = text_part(model)
    stack = find_layers(part)
    if stack is None:
        raise InputError(
            f"{type(model).__name__} has no row of layers that reads what it hears",
            received="a decoder of another build",
            allowed="layers one behind the other",
            fix="Choose another model.",
        )
    return part.get_submodule(stack.path)


def audio_token_of(config: Any, checkpoint: Path) -> int:
    """The id that stands for a row of features; raises InputError where the configuration names none."""
    for name in ("audio_token_id", "audio_token_index"):
        token = getattr(config, name, None)
        if type(token) is int and 0 <= token < config.get_text_config().vocab_size:
            return token
    raise InputError(
        f"{checkpoint} does not say which token stands for sound",
        received="no audio_token_id in config.json, or one without an embedding",
        allowed="a model that puts features of sound in the places of one token",
        fix="Choose a model that does.",
    )
