"""The two graphs of a model that reads recordings beside texts: what it makes of one's features, and its decoder."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import AUDIO_FEATURES
from jisu.exporter.sources.entering_rows import entering_rows
from jisu.exporter.sources.image_processor import taken_by
from jisu.exporter.sources.recording_ways import made_recording
from jisu.exporter.sources.recording_windows import given_windows
from jisu.exporter.tracing.encoder_input import FRAMES
from jisu.exporter.tracing.image_decoder import ImageDecoder, add_image_inputs
from jisu.exporter.tracing.one_image import one_at_a_time
from jisu.exporter.tracing.routing import ATTENTION, SPELLED_OUT, asks_for_attention, routed
from jisu.exporter.tracing.torch_exporter import run_exporter
from jisu.exporter.tracing.trace import clean, dims_of, name_inputs, name_outputs, trace

if TYPE_CHECKING:
    import onnx_ir as ir

    from jisu.exporter.sources.audio_text import HearingSource
    from jisu.exporter.sources.source import Source

WINDOWS = "windows"
# Of the example: above one window or second, since torch.export fixes dimensions of size 0 and 1.
_WINDOWS = 2.6
_SECONDS = 1.3


class HearingPart(nn.Module):
    """What a model puts in the places of a recording's tokens -> float32 [rows, features].

    Args:
        names: of the inputs, in their order.
        windows: rows of each window that the model attends in; None where it attends in none.
        frames: which input has them, and on which axis.
        prompt: what the processor makes of a prompt with one recording, besides these; tokens count for nothing here.
    """

    weight_prefix = "model."

    def __init__(
        self,
        model: Any,
        layers: Any,
        *,
        names: tuple[str, ...],
        prompt: Mapping[str, Tensor],
        windows: int | None,
        frames: tuple[int, int],
    ) -> None:
        super().__init__()
        self.model = model
        # Not a module of this one: it is emptied while it listens.
        self._layers = [layers]
        self._names, self._prompt = names, dict(prompt)
        self._windows, self._frames = windows, frames

    def forward(self, *inputs: Tensor) -> Tensor:
        arguments = {**self._prompt, **dict(zip(self._names, inputs, strict=True))}
        if self._windows is None:
            return entering_rows(self.model, self._layers[0], arguments)
        # Rows are no more than frames, and windows behind the last row are none; several, as torch.export fixes one.
        number, axis = self._frames
        ends = torch.arange(inputs[number].shape[axis] // self._windows + 3) * self._windows
        with given_windows(self.model, ends), one_at_a_time():
            return entering_rows(self.model, self._layers[0], arguments)


class _Root(nn.Module):
    def __init__(self, traced: HearingPart) -> None:
        super().__init__()
        self.traced = traced

    def forward(self, *inputs: Tensor) -> Tensor:
        rows: Tensor = self.traced(*inputs)
        return rows


def trace_hearing_decoder(source: Source) -> ir.Model:
    """Trace the decoder once, with the optional inputs for rows of features.

    Raises:
        InputError: it cannot be traced, or cannot continue from a state.
    """
    module: Any = source.module
    decoder = ImageDecoder(module)
    model = trace(decoder, decoder.state_spec())
    add_image_inputs(model.graph)
    return model


def trace_hearing(hearing: HearingSource) -> ir.Model:
    """Trace what makes rows of the features of one recording.

    Returns:
        A graph with the inputs of `runtimes.speech.cuts.recording_inputs` and the output ``audio_features`` float32
        [rows, features].

    Raises:
        InputError: it cannot be traced, or froze an axis.
    """
    model: Any = hearing.model
    example = _example(hearing)
    dims = {name: _dims(hearing, name, array) for name, array in example.items()}
    made = taken_by(model, hearing.inputs(hearing.settings.mark, [made_recording(_samples(hearing))]))
    prompt = {name: value for name, value in made.items() if name not in example}
    windows = None if hearing.windows is None else hearing.windows.rows
    name = hearing.audio.settings.input_name
    frames = (list(example).index(name), _longest_axis(dims[name]))
    part = HearingPart(model, hearing.layers, names=tuple(example), prompt=prompt, windows=windows, frames=frames)
    arguments = tuple(torch.from_numpy(np.ascontiguousarray(array)) for array in example.values())
    root = _Root(part).eval()
    by_interface = asks_for_attention(model, lambda: entering_rows(model, hearing.layers, made))
    with routed(model, ATTENTION if by_interface else SPELLED_OUT, reads_padding=True):
        graph_model = run_exporter(
            root, arguments, (tuple(_shapes(dims[name], hearing.settings.multiple) for name in example),)
        )
    graph = graph_model.graph
    name_inputs(
        graph,
        list(example),
        outputs=1,
        what=f"The trace of what {type(model).__name__} hears",
        fix="Choose a model that reads every input.",
    )
    for value, name in zip(graph.inputs, example, strict=True):
        _refuse_frozen(value, dims[name])
    name_outputs(graph, [AUDIO_FEATURES])
    clean(root, graph_model, [])
    return graph_model


def _samples(hearing: HearingSource) -> int:
    audio, settings = hearing.audio.settings, hearing.settings
    if audio.window is None:
        seconds = _SECONDS if hearing.windows is None else max(_SECONDS, hearing.windows.seconds)
        return int(max(seconds * audio.sampling_rate, _WINDOWS * settings.multiple * audio.hop))
    return int((0.6 if settings.preparation == "one-window" else _WINDOWS) * audio.window)


def _example(hearing: HearingSource) -> dict[str, npt.NDArray[Any]]:
    return hearing.arrays(made_recording(_samples(hearing)))


def _dims(hearing: HearingSource, name: str, array: npt.NDArray[Any]) -> tuple[int | str, ...]:
    """Sizes of an input, with letters for those that differ from recording to recording."""
    audio, settings = hearing.audio.settings, hearing.settings
    sizes: list[int | str] = list(array.shape)
    if audio.window is None:
        sizes[1 + audio.dims.index(None) if name == audio.input_name else 1] = FRAMES
    elif settings.preparation != "one-window":
        sizes[0] = WINDOWS
    return tuple(sizes)


def _longest_axis(dims: tuple[int | str, ...]) -> int:
    """Of features, [1 or windows, ...]: that of their frames, or the longest where their number is fixed."""
    sizes = {place: dim for place, dim in enumerate(dims) if isinstance(dim, int) and place > 0}
    return dims.index(FRAMES) if FRAMES in dims else max(sizes, key=lambda place: sizes[place])


def _shapes(dims: tuple[int | str, ...], multiple: int) -> dict[int, Any]:
    # Of what convolutions leave of frames torch proves too little; that none is fixed is seen later.
    size: Any = torch.export.Dim.AUTO if multiple == 1 else multiple * torch.export.Dim("chunks", max=1 << 20)
    return {place: size for place, dim in enumerate(dims) if isinstance(dim, str)}


def _refuse_frozen(value: ir.Value, dims: tuple[int | str, ...]) -> None:
    traced = dims_of(value)
    if any(isinstance(old, int) and not isinstance(new, int) for old, new in zip(traced, dims, strict=True)):
        raise InputError(
            f"The trace froze an axis of {value.name}",
            received=f"dims {list(traced)}",
            allowed=f"dims {list(dims)}",
            fix="Choose a model that hears recordings of any length in this way.",
        )
