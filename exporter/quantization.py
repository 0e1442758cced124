"""A source's weights -> integers, by parameter name: which weights, from what text, by which algorithm.

The source's own weights are as before when it returns: the gate compares with them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.errors import InputError
from exporter.precision import Precision

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from calibration.formats import BlockFormat, BlockQuantized
    from exporter.sources.source import Source

Progress = Callable[[int, int], None]
# Calibration text for GPTQ: enough that more does not change the result beyond its noise.
WINDOWS, WINDOW_TOKENS = 32, 256


@dataclass(frozen=True, kw_only=True)
class QuantizedWeights:
    """What became of a source's weights.

    Attributes:
        by_name: parameter name -> integers, the names as in the checkpoint; tied weights share one value.
        record: formats, algorithm, budget and calibration text, for the manifest.
    """

    by_name: dict[str, BlockQuantized]
    record: dict[str, Any]


def quantize_source(
    source: Source, precision: Precision, *, text: Path | None = None, progress: Progress | None = None
) -> QuantizedWeights:
    """Quantize every linear layer of the decoder, the embedding and the output projection.

    Args:
        source: its module is changed while this runs and restored before it ends.
        precision: formats and algorithm; nothing is quantized where a format is None.
        text: calibration text; None for the first half of the prose that every CPython carries.
        progress: called with the layers done and their number.

    Raises:
        InputError: unusable calibration text, a block size that does not divide a layer, or activations that are not
            finite.
    """
    from calibration.errors import CalibrationError

    if text is not None and precision.algorithm != "gptq":
        raise InputError(
            f"The precision {precision.name} uses no calibration text",
            received=f"--calibration {text}",
            allowed="a precision that is calibrated",
            fix="Leave it out, or use --precision int4.",
        )
    found: dict[str, BlockQuantized] = {}
    record: dict[str, Any] = {}
    if precision.layers is None or precision.embedding is None:
        return QuantizedWeights(by_name=found, record=record)
    record |= {"layers": asdict(precision.layers), "embedding": asdict(precision.embedding)}
    record |= {"algorithm": precision.algorithm, "budget": asdict(precision.budget)}
    try:
        found |= _quantize_embeddings(source, precision.embedding.to_block_format())
        path, layers = _decoder_layers(source)
        form = precision.layers.to_block_format()
        if precision.algorithm == "gptq":
            windows, record["calibration"] = calibration_windows(source, text)
            found |= _gptq_layers(source, layers, form, windows, progress)
        else:
            found |= _round_layers(path, layers, form, progress)
    except CalibrationError as error:
        raise InputError(error.failed, received=error.received, allowed=error.allowed, fix=error.fix) from error
    return QuantizedWeights(by_name=found, record=record)


def _quantize_embeddings(source: Source, form: BlockFormat) -> dict[str, BlockQuantized]:
    from calibration.round_to_nearest import round_to_nearest

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


def _decoder_layers(source: Source) -> tuple[str, Any]:
    """Path and list of the decoder layers."""
    from exporter.tracing.layers import plan_layers

    plan = plan_layers(source.module)
    if plan is None:
        raise InputError(
            f"{source.model.architecture} has no list of decoder layers to quantize", fix="Export it in fp32."
        )
    return plan.path, source.module.get_submodule(plan.path)


def _round_layers(path: str, layers: Any, form: BlockFormat, progress: Progress | None) -> dict[str, BlockQuantized]:
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
    source: Source,
    layers: Any,
    form: BlockFormat,
    windows: list[npt.NDArray[np.int64]],
    progress: Progress | None,
) -> dict[str, BlockQuantized]:
    import numpy as np

    from calibration.awq import search_channel_scales
    from calibration.folding import multiply_columns
    from calibration.gptq import gptq
    from calibration.sequential import GroupStatistics, quantize_sequentially, split_rows

    def quantize(group: GroupStatistics) -> Sequence[BlockQuantized]:
        # Rows are independent and the statistics are one: matrices with one input are quantized as one.
        stacked, layer = np.concatenate(group.weights), group.names[0]
        rows = [len(weight) for weight in group.weights]
        if len(rows) == 1:
            return [gptq(stacked, group.hessian, form, layer=layer)]
        # Several products of one input mostly follow a norm, which their channel scales fold into for nothing.
        found = search_channel_scales([stacked], form, mean_abs=group.mean_abs, hessian=group.hessian, layer=layer)
        scales = found.scales
        result = gptq(multiply_columns(stacked, scales), group.hessian / np.outer(scales, scales), form, layer=layer)
        return split_rows(replace(result, channel_scales=scales), rows)

    results = quantize_sequentially(source.module, list(layers), windows, quantize, restore=True, progress=progress)
    return {f"{name}.weight": value for name, value in results}


def calibration_windows(source: Source, text: Path | None) -> tuple[list[npt.NDArray[np.int64]], dict[str, Any]]:
    """Seeded windows of the calibration text in the source's own tokens, int64 [WINDOW_TOKENS] each, and their record.

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
    windows = draw_windows(ids, count=WINDOWS, length=min(WINDOW_TOKENS, limit))
    record = {
        "text": found.origin,
        "text_sha256": found.sha256,
        "windows": len(windows.ids),
        "window_tokens": windows.ids.shape[1],
        "seed": windows.seed,
        "windows_sha256": windows.sha256,
    }
    return windows.as_list(), record
