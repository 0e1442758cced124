"""A source -> its portable graphs, by way of the adapter that its kind of module needs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import ONE_PASS_KINDS, SPEECH, TEXT_TO_TEXT
from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.module_kind import has_encoder, is_of_transformers, model_of_transformers

if TYPE_CHECKING:
    import onnx_ir as ir
    from torch import nn
    from transformers import PreTrainedModel

    from jisu.exporter.sources.audio import AudioSource
    from jisu.exporter.sources.source import Source
    from jisu.exporter.tracing.one_pass import OnePass


def trace_source(source: Source, *, say: Callable[[str], None] | None = None) -> ir.Model:
    """Trace a source once; of a model with an encoder, its decoder.

    Args:
        say: reports what the user should know about the way in which the model was traced.

    Raises:
        InputError: the module cannot be traced.
    """

    if source.model_kind in ONE_PASS_KINDS:
        from jisu.exporter.tracing.one_pass import trace_one_pass

        return trace_one_pass(
            traced_reader(source),
            columns=source.columns,
            max_positions=source.model.max_positions,
            # Where the states of all layers are read, none is like the others.
            repeats=model_of_transformers(source.module) is not None and getattr(source.module, "layers", None) is None,
        )
    if source.vision is not None:
        from jisu.exporter.tracing.trace_images import trace_image_decoder

        return trace_image_decoder(source)
    if source.hearing is not None:
        from jisu.exporter.tracing.trace_recordings import trace_hearing_decoder

        return trace_hearing_decoder(source)
    if source.model_kind == SPEECH and not has_encoder(source.module):
        from jisu.exporter.tracing.frames import FrameLabels, trace_frames

        assert source.audio is not None, "a model that hears says how"
        return trace_frames(FrameLabels(source.module, source.audio), labels=source.model.vocab_size)
    if is_of_transformers(source.module) and not has_encoder(source.module):
        return _trace_decoder(source.module, say)
    own: dict[str, Any] = {}
    if not is_of_transformers(source.module):
        # Nobody knows what passes between the layers of somebody's module, such as a mask that differs in a few.
        own = {"max_positions": source.model.max_positions, "repeats": False}
    return _trace_interface(traced_interface(source.module, source.audio), **own)


def _trace_decoder(module: PreTrainedModel, say: Callable[[str], None] | None) -> ir.Model:
    """With the model's state where it can be carried from token to token, otherwise over whole texts."""
    from jisu.exporter.tracing.causal_lm import CausalLM
    from jisu.exporter.tracing.whole_text import WholeText

    try:
        return _trace_interface(CausalLM(module))
    except InputError as reason:
        try:
            model = _trace_interface(WholeText(module))
        except InputError:
            raise reason from None  # what stands in the way of both is said by the first
        if say is not None:
            say(f"Every new token runs the whole text before it again, which is slow for long texts. {reason}")
        return model


def _trace_interface(module: Any, **own: Any) -> ir.Model:
    from jisu.calibration.model.whole_sequences import has_state
    from jisu.exporter.tracing.trace import trace

    if not has_state(module):
        return trace(module, [], **own)
    # A user may write dims as a list, and dtypes as torch's.
    items = [
        (name, kind, tuple(dims), str(dtype).removeprefix("torch.")) for name, kind, dims, dtype in module.state_spec()
    ]
    return trace(module, items, **own)


def trace_source_encoder(source: Source) -> ir.Model | None:
    """Trace the encoder of a model that has one, once; None for any other.

    Raises:
        InputError: the module cannot be traced.
    """
    if source.model_kind not in (TEXT_TO_TEXT, SPEECH) or not has_encoder(source.module):
        return None
    from jisu.exporter.tracing.encoder_decoder import EncoderDecoder
    from jisu.exporter.tracing.trace_encoder import trace_encoder

    module: Any = traced_interface(source.module, source.audio)
    assert isinstance(module, EncoderDecoder)
    return trace_encoder(module, longest=source.model.max_source_positions)


def traced_reader(source: Source) -> OnePass:
    """A source that reads whole texts as ``forward(input_ids[, attention_mask][, token_type_ids])``."""
    from jisu.exporter.tracing.one_pass import OnePass

    return OnePass(source.module, source.model_kind, takes_types=source.takes_types)


def trace_source_vision(source: Source) -> ir.Model | None:
    """Trace what a model makes of one image, once; None for a model that reads no images.

    Raises:
        InputError: the module cannot be traced.
    """
    if source.vision is None:
        return None
    from jisu.exporter.tracing.trace_images import trace_images

    return trace_images(source.vision)


def trace_source_hearing(source: Source) -> ir.Model | None:
    """Trace what a model makes of the features of a recording, once; None for one that reads no recordings.

    Raises:
        InputError: the module cannot be traced.
    """
    if source.hearing is None:
        return None
    from jisu.exporter.tracing.trace_recordings import trace_hearing

    return trace_hearing(source.hearing)


def trace_source_audio(source: Source) -> ir.Model | None:
    """Trace what makes sound into what the model reads; None for a model that does not hear.

    Raises:
        InputError: it is none of the known ways.
    """
    if source.audio is None:
        return None
    from jisu.exporter.tracing.audio_features import trace_features

    return trace_features(source.audio)


def traced_interface(module: nn.Module, audio: AudioSource | None = None) -> nn.Module:
    """A source's module as ``forward(input_ids, past_length, state)`` with `state_spec()`, or ``forward(input_ids)``.

    Modules of transformers get an adapter; a module of the user's own is what it is.

    Args:
        audio: how a model that hears does.
    """
    if not is_of_transformers(module):
        return module
    if has_encoder(module):
        from jisu.exporter.tracing.encoder_decoder import EncoderDecoder
        from jisu.exporter.tracing.encoder_input import audio_input

        return EncoderDecoder(module, None if audio is None else audio_input(audio))
    from jisu.exporter.tracing.causal_lm import CausalLM, StateNotCarriedError
    from jisu.exporter.tracing.whole_text import WholeText

    try:
        return CausalLM(module)
    except StateNotCarriedError:
        return WholeText(module)
