"""Sensitivity from one walk: every layer is rounded in every format on one set of statistics, and never again.

What each rounding costs comes from one backward pass (`expected_costs`) instead of a run of the model for each of them;
embeddings, of which there are one or two, are measured. The codes are kept, so that the mixed precisions that are tried
take them. On SmolLM2-135M that is minutes where measuring each layer with each format is most of an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Any

from jisu.exporter.jobs.stages import ReportProgress
from jisu.exporter.precision.precision import STORED_BITS, WeightFormat
from jisu.exporter.quantization.calibration_errors import as_input_errors
from jisu.exporter.quantization.expected_costs import (
    NoGradientsError,
    can_observe,
    expected_costs,
    first_windows,
    observe_layers,
)
from jisu.exporter.quantization.matrices import Matrix, matrices_of
from jisu.exporter.quantization.output_projections import Products, quantize_output_projections
from jisu.exporter.quantization.sensitivity import (
    LAYER_FORMATS,
    SCORED_TOKENS,
    Sensitivity,
    measure_embeddings,
    split_places,
    unit_of,
)
from jisu.exporter.quantization.walked_layers import ROUNDED_BITS, codes_of, walk_layers
from jisu.exporter.quantization.weight_formats import FormatChoice, fit_block_size, stores_all_bits, takes_short_blocks
from jisu.exporter.sources.finite_weights import check_finite_weights
from jisu.exporter.sources.layer_stack import decoder_layers

if TYPE_CHECKING:
    from jisu.calibration.weights.formats import BlockQuantized
    from jisu.exporter.jobs.resume_folder import ResumeFolder
    from jisu.exporter.quantization.calibration_data import CalibrationData
    from jisu.exporter.sources.source import Source

# Layers behind are rounded on what these give, and channel scales are searched for them.
_FEWEST = "int4"
# Of what rounding an output projection to the nearest costs, about what is left when it is rounded on text.
_LEFT_BY_TEXT = 1 / 3


@dataclass(frozen=True, kw_only=True)
class WalkedLayers:
    """Codes of all layers in all formats below 8 bits, for choices to be carried out with.

    Attributes:
        codes: by parameter name, in one format after another.
        windows: what they were rounded on, int64 [T] each.
    """

    codes: Sequence[Mapping[str, BlockQuantized]]
    windows: list[Any]
    _projections: dict[str, dict[str, BlockQuantized]] = field(default_factory=dict)
    _products: Products = field(default_factory=dict)

    def layers(self, choice: FormatChoice) -> dict[str, BlockQuantized]:
        """What a choice has, by parameter name."""
        return codes_of(choice, self.codes)

    def output_projections(self, source: Source, choice: FormatChoice) -> dict[str, BlockQuantized]:
        """Those of a choice in few bits, each format rounded once, by parameter name."""
        embeddings = [matrix.name for matrix in matrices_of(source.module) if matrix.embedding]
        key = repr([choice.formats.get(name) for name in embeddings])
        if key not in self._projections:
            rounded = quantize_output_projections(source, choice, self.windows, products=self._products)
            stored = {id(part): source.put_aside(part) for part in rounded.values()}
            self._projections[key] = {name: stored[id(part)] for name, part in rounded.items()}
        return self._projections[key]


def walk_all_formats(
    source: Source,
    data: CalibrationData,
    *,
    target: str,
    keep: Sequence[str] = (),
    resume: ResumeFolder | None = None,
    progress: ReportProgress | None = None,
    say: Callable[[str], None] = lambda text: None,
) -> tuple[Sensitivity, WalkedLayers] | None:
    """What every format costs every layer, and the layers in all of them.

    None of a model whose layers no one walk and no backward pass reach: experts, recurrent layers, layers that are
    called twice, models of too many parameters.

    Args:
        source: its module is changed while this runs and restored before it ends.
        data: calibration windows, see `exporter.quantization.sensitivity.split_windows`.
        target: whose files hold the formats.
        keep: patterns of module paths that stay float32.
        resume: where what is finished is kept.
        progress: called with the layers done and their number.
        say: told why there is nothing, where that is seen late.

    Raises:
        InputError: activations or weights that are not finite.
    """
    formats = walked_formats(source, target=target, keep=keep)
    if not formats:
        return None
    check_finite_weights(source.module)
    with as_input_errors():
        return _walk(source, data, formats, target=target, keep=keep, resume=resume, progress=progress, say=say)


def _walk(
    source: Source,
    data: CalibrationData,
    formats: Mapping[str, Mapping[str, WeightFormat]],
    *,
    target: str,
    keep: Sequence[str],
    resume: ResumeFolder | None,
    progress: ReportProgress | None,
    say: Callable[[str], None],
) -> tuple[Sensitivity, WalkedLayers] | None:
    from jisu.calibration.sensitivity import GroupSensitivity, Scorer
    from jisu.calibration.w8a8.feeders import find_feeders

    layers, places = list(formats[_FEWEST]), split_places(data)
    try:
        observed = observe_layers(source, layers, first_windows(data, places["statistics"]))
    except NoGradientsError as reason:
        say(f"Each layer is measured with each format: no gradients can be calculated ({reason}).")
        return None
    if sorted(name for one in observed for name in one.names) != sorted(layers):
        say("Each layer is measured with each format: gradients do not reach all of them, or reach one several times.")
        return None
    windows = [data.windows.ids[place] for place in places["statistics"]]
    few, *finer = (label for label in formats if LAYER_FORMATS[label].bits < ROUNDED_BITS)
    stack = list(decoder_layers(source))
    codes = walk_layers(
        source,
        FormatChoice(formats={name: formats[few][name] for name in layers}, algorithm="gptq"),
        {name: tuple(formats[label][name] for label in finer) for name in layers},
        windows,
        find_feeders(source.module, stack, windows[0]),
        progress,
        resume=resume,
    )
    units = expected_costs(source, observed, codes, LAYER_FORMATS["int8"])
    groups = [
        GroupSensitivity(names=unit.names, kl=dict(zip((few, *finer, "int8"), unit.costs, strict=True)))
        for unit in units
    ]
    matrices = matrices_of(source.module)
    kept = kept_storages(matrices, keep)
    embeddings = [one for one in matrices if one.embedding and one.storage not in kept]
    if embeddings:
        scored = [data.windows.ids[place][:SCORED_TOKENS] for place in places["score"]]
        scorer = Scorer(source.module, stack, scored)
        groups += measure_embeddings(source, embeddings, scorer, left_by_text=_LEFT_BY_TEXT)
    known = {matrix.name: matrix for matrix in matrices}
    sensitivity = Sensitivity.of([unit_of(group, known, target) for group in groups], data)
    return sensitivity, WalkedLayers(codes=codes, windows=windows)


def walked_formats(source: Source, *, target: str, keep: Sequence[str] = ()) -> dict[str, dict[str, WeightFormat]]:
    """Label -> format of each layer, from few bits to many; those that all layers can have, empty where none is walked.

    Args:
        source: may be an outline.
        target: whose files hold the formats.
        keep: patterns of module paths that stay float32.
    """
    matrices = matrices_of(source.module)
    kept = kept_storages(matrices, keep)
    layers = [one for one in matrices if not one.embedding and one.storage not in kept]
    if not layers or any(one.recurrent or one.routed or not one.stacked for one in layers) or not can_observe(source):
        return {}
    narrow = stores_all_bits(target, matrices)
    by_label = {}
    for label, form in reversed(LAYER_FORMATS.items()):
        if form.bits in STORED_BITS and not narrow:
            continue
        fitted = {one.name: fit_block_size(form, one.features, short=takes_short_blocks(target)) for one in layers}
        present = {name: one for name, one in fitted.items() if one is not None}
        if len(present) == len(layers):
            by_label[label] = present
    return by_label if _FEWEST in by_label else {}


def kept_storages(matrices: Sequence[Matrix], keep: Sequence[str]) -> set[Any]:
    """Of weights that patterns keep by one of their names: a tied embedding is kept as a whole."""
    return {one.storage for one in matrices if any(fnmatchcase(one.name, pattern) for pattern in keep)}
