"""A source's weights -> integers, by parameter name: which weights, from what text, by which algorithm.

The source's own weights are as before when it returns: the gate compares with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import InputError
from exporter.precision import Precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from calibration.formats import BlockQuantized
    from exporter.sources.source import Source

Progress = Callable[[int, int], None]
# Calibration text for GPTQ: enough that more does not change the result beyond its noise.
WINDOWS, WINDOW_TOKENS = 64, 512


def quantize_source(
    source: Source, precision: Precision, *, text: Path | None = None, progress: Progress | None = None
) -> dict[str, BlockQuantized]:
    """Quantize every linear layer of the decoder, the embedding and the output projection.

    Args:
        source: its module is changed while this runs and restored before it ends.
        precision: formats and algorithm; nothing is quantized where a format is None.
        text: calibration text; None for the first half of the prose that every CPython carries.
        progress: called with the layers done and their number.

    Returns:
        Parameter name -> integers, the names as in the checkpoint. Tied weights share one value.

    Raises:
        InputError: unusable calibration text, a block size that does not divide a layer, or activations that are not
            finite.
    """
    from calibration.errors import CalibrationError

    found: dict[str, BlockQuantized] = {}
    try:
        if precision.embedding is not None:
            found |= _quantize_embeddings(source, precision)
        if precision.layers is not None:
            found |= _quantize_layers(source, precision, text, progress)
    except CalibrationError as error:
        raise InputError(error.failed, received=error.received, allowed=error.allowed, fix=error.fix) from error
    return found


def _quantize_embeddings(source: Source, precision: Precision) -> dict[str, BlockQuantized]:
    from calibration.round_to_nearest import round_to_nearest

    assert precision.embedding is not None
    form = precision.embedding.to_block_format()
    module: Any = source.module
    done: dict[int, BlockQuantized] = {}
    found = {}
    ends = (module.get_input_embeddings(), module.get_output_embeddings())
    for name, child in module.named_modules():
        if any(child is end for end in ends):
            weight = child.weight
            if id(weight) not in done:
                done[id(weight)] = round_to_nearest(weight.detach().numpy(), form, layer=name)
            found[f"{name}.weight"] = done[id(weight)]
    return found


def _quantize_layers(
    source: Source, precision: Precision, text: Path | None, progress: Progress | None
) -> dict[str, BlockQuantized]:
    from exporter.tracing.layers import plan_layers

    assert precision.layers is not None
    form = precision.layers.to_block_format()
    plan = plan_layers(source.module)
    if plan is None:
        raise InputError(
            f"{source.model.architecture} has no list of decoder layers to quantize", fix="Export it in fp32."
        )
    layers: Any = source.module.get_submodule(plan.path)
    if precision.algorithm == "rtn":
        return _round_layers(plan.path, layers, form, progress)
    return _gptq_layers(source, layers, form, text, progress)


def _round_layers(path: str, layers: Any, form: Any, progress: Progress | None) -> dict[str, BlockQuantized]:
    from torch import nn

    from calibration.round_to_nearest import round_to_nearest

    found = {}
    for index, layer in enumerate(layers):
        for name, child in layer.named_modules():
            if isinstance(child, nn.Linear):
                full = f"{path}.{index}.{name}"
                found[f"{full}.weight"] = round_to_nearest(child.weight.detach().numpy(), form, layer=full)
        if progress is not None:
            progress(index + 1, len(layers))
    return found


def _gptq_layers(
    source: Source, layers: Any, form: Any, text: Path | None, progress: Progress | None
) -> dict[str, BlockQuantized]:
    from calibration.gptq import gptq
    from calibration.sequential import GroupStatistics, quantize_sequentially

    def quantize(group: GroupStatistics) -> Sequence[BlockQuantized]:
        return [
            gptq(weight, group.hessian, form, layer=name)
            for name, weight in zip(group.names, group.weights, strict=True)
        ]

    results = quantize_sequentially(
        source.module, list(layers), calibration_windows(source, text), quantize, restore=True, progress=progress
    )
    return {f"{name}.weight": value for name, value in results}


def calibration_windows(source: Source, text: Path | None) -> list[npt.NDArray[np.int64]]:
    """Seeded windows of the calibration text in the source's own tokens, int64 [WINDOW_TOKENS] each.

    Raises:
        InputError: the source has no tokenizer to read text with.
        CalibrationError: the text cannot be used.
    """
    from calibration.text import default_text, read_text
    from calibration.windows import draw_windows

    if source.tokenizer is None:
        raise InputError(
            "The model has no tokenizer to calibrate with",
            allowed="a checkpoint with tokenizer.json",
            fix="Add the tokenizer's files to the checkpoint, or use --precision int8, which needs no text.",
        )
    found = default_text() if text is None else read_text(text)
    limit = source.model.max_positions or WINDOW_TOKENS
    ids = source.tokenizer(found.text, add_special_tokens=False, verbose=False)["input_ids"]
    return draw_windows(ids, count=WINDOWS, length=min(WINDOW_TOKENS, limit)).as_list()
