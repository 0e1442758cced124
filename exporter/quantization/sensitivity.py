"""Which weights of a source suffer from which format: measured one group at a time, kept in a file, resumable."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.stages import ReportProgress
from jisu.exporter.precision.precision import STORED_BITS, WeightFormat
from jisu.exporter.quantization.calibration_errors import as_input_errors
from jisu.exporter.quantization.matrices import Matrix, matrices_of
from jisu.exporter.quantization.output_projections import has_few_bits, quantize_output_projections
from jisu.exporter.quantization.sensitivity_file import SCHEMA, check_place, read_figures, write_figures
from jisu.exporter.quantization.walked_layers import quantize_group
from jisu.exporter.quantization.weight_formats import (
    FormatChoice,
    fit_block_size,
    scale_bytes,
    stores_all_bits,
    takes_short_blocks,
)
from jisu.exporter.sources.finite_weights import check_finite_weights
from jisu.exporter.sources.half_width import float32_array
from jisu.exporter.sources.layer_stack import decoder_layers

if TYPE_CHECKING:
    from jisu.calibration.sensitivity import GroupSensitivity, Scorer
    from jisu.calibration.sequential import GroupStatistics
    from jisu.calibration.weights.formats import BlockQuantized
    from jisu.exporter.quantization.calibration_data import CalibrationData
    from jisu.exporter.sources.source import Source

# A decoder layer by its number, or `EMBEDDINGS`: what is measured at once and kept in the file.
Part = int | str
# Parts -> (part, its groups) of each as soon as it is measured, in any order.
Measure = Callable[[Sequence[Part]], Iterator[tuple[Part, list["GroupSensitivity"]]]]
EMBEDDINGS = "tables"
FLOAT = "fp32"
# label -> format, the largest first; fp32, which costs no quality, is always a candidate as well.
LAYER_FORMATS = {
    "int8": WeightFormat(bits=8, block_size=32, symmetric=True),
    "int6": WeightFormat(bits=6, block_size=64, symmetric=True),
    "int5": WeightFormat(bits=5, block_size=64, symmetric=True),
    "int4-block32": WeightFormat(bits=4, block_size=32, symmetric=False),
    "int4": WeightFormat(bits=4, block_size=64, symmetric=False),
}
EMBEDDING_FORMATS = {
    "int8": WeightFormat(bits=8, block_size=32, symmetric=True),
    "int6": WeightFormat(bits=6, block_size=64, symmetric=False),
    "int5": WeightFormat(bits=5, block_size=64, symmetric=False),
    "int4-block16": WeightFormat(bits=4, block_size=16, symmetric=False),
    "int4": WeightFormat(bits=4, block_size=32, symmetric=False),
}
# Of a window that is scored: the distributions of a few are kept, and two halves say more than one whole.
SCORED_TOKENS = 128
# Of every eleven windows eight are for statistics, one is scored here, and two are left to check the whole choice with.
_SHARES = (*["statistics"] * 4, "score", *["statistics"] * 4, "check", "check")


@dataclass(frozen=True, kw_only=True)
class Unit:
    """Weights that get one format together, and what each candidate costs.

    Attributes:
        names: module paths; layers that read one input, or the names of one embedding.
        kind: ``layers`` or ``tables`` (embeddings), each with formats of their own.
        features: K, the input features of each.
        elements: of all of them, tied ones counted once.
        kl: label -> mean KL divergence in nats when only this unit is quantized.
        bytes: label -> stored size.
    """

    names: tuple[str, ...]
    kind: str
    features: int
    elements: int
    kl: dict[str, float]
    bytes: dict[str, int]


@dataclass(frozen=True, kw_only=True)
class Sensitivity:
    """Measured units in the order of the model, embeddings last."""

    units: tuple[Unit, ...]
    candidates: dict[str, dict[str, WeightFormat]]
    calibration: dict[str, Any]

    @classmethod
    def of(cls, units: Sequence[Unit], data: CalibrationData) -> Sensitivity:
        """Units with the formats that they were measured with, on this text."""
        return cls(units=tuple(units), candidates=_kinds(), calibration=data.record)

    def to_dict(self) -> dict[str, Any]:
        candidates = {kind: {label: asdict(form) for label, form in known.items()} for kind, known in _kinds().items()}
        units = [asdict(unit) for unit in self.units]
        return {"candidates": candidates, "calibration": self.calibration, "units": units}


def split_windows(data: CalibrationData) -> dict[str, list[Any]]:
    """Windows by what they are for: ``statistics``, ``score`` and ``check``; int64 [T] each.

    Of a mixture, those that are scored and checked are of all its parts alike.

    Raises:
        InputError: too few windows for all three.
    """
    return {share: [data.windows.ids[place] for place in places] for share, places in split_places(data).items()}


def check_windows_of(data: CalibrationData) -> dict[str, list[Any]]:
    """The windows to check a whole choice with, by the part of the mixture that they are of."""
    windows: dict[str, list[Any]] = {}
    for place in split_places(data)["check"]:
        windows.setdefault(data.parts[place] if data.parts else "text", []).append(data.windows.ids[place])
    return windows


def split_places(data: CalibrationData) -> dict[str, list[int]]:
    """See `split_windows`: the places of the windows instead of these."""
    from jisu.calibration.text.mixture import take_turns

    count = len(data.windows.ids)
    if count < len(_SHARES):
        raise InputError(
            "The calibration text is too short to measure layers one by one",
            received=f"{count} windows of {data.windows.ids.shape[1]} tokens",
            allowed=f"at least {len(_SHARES)} windows",
            fix="Give more text with --calibration, or use --precision int8 or int4.",
        )
    places: dict[str, list[int]] = {"statistics": [], "score": [], "check": []}
    if len(set(data.parts)) > 1:
        scored = count // len(_SHARES)
        turns = take_turns(data.parts)
        places["score"], places["check"] = turns[:scored], turns[scored : 3 * scored]
        places["statistics"] = sorted(turns[3 * scored :])
        return places
    for place in range(count):
        places[_SHARES[place % len(_SHARES)]].append(place)
    return places


def measure_sensitivity(
    source: Source,
    data: CalibrationData,
    *,
    path: Path | None = None,
    target: str = "ort-cpu",
    progress: ReportProgress | None = None,
    measure: Measure | None = None,
) -> Sensitivity:
    """Measure every unit with every candidate.

    Args:
        source: its module is changed while this runs and restored before it ends.
        data: calibration windows, see `split_windows`.
        path: file to keep the figures in; an unfinished one of the same model and windows is resumed, a finished
            one is only read.
        target: whose stored sizes the units get; the file does not depend on it.
        progress: called with the layers done and their number.
        measure: measures the parts that are missing; `measure_parts` of this source when None.

    Raises:
        InputError: the file holds figures of something else, the text is too short, or activations are not finite.
    """
    from jisu.calibration.sensitivity import GroupSensitivity
    from jisu.calibration.text.fingerprint import model_fingerprint

    shares = split_windows(data)
    check_finite_weights(source.module)
    origin = {
        "schema": SCHEMA,
        "model": model_fingerprint(source.module),
        "windows": data.fingerprint,
        **Sensitivity(units=(), candidates=_kinds(), calibration=data.record).to_dict(),
    }
    del origin["units"]
    check_place(path)
    state = read_figures(path, origin) or {**origin, "layers": {}, "tables": None}
    count = len(list(decoder_layers(source)))
    missing: list[Part] = [index for index in range(count) if str(index) not in state["layers"]]
    missing += [EMBEDDINGS] if state[EMBEDDINGS] is None else []
    with as_input_errors():
        for part, groups in (measure or partial(measure_parts, source, shares))(missing) if missing else ():
            stored = [asdict(group) for group in groups]
            if part == EMBEDDINGS:
                state[EMBEDDINGS] = stored
            else:
                state["layers"][str(part)] = stored
            write_figures(path, state)
            if progress and part != EMBEDDINGS:
                progress(len(state["layers"]), count)
    kept = [group for index in range(count) for group in state["layers"][str(index)]] + state[EMBEDDINGS]
    sensitivities = [GroupSensitivity(names=tuple(group["names"]), kl=group["kl"]) for group in kept]
    matrices = {matrix.name: matrix for matrix in matrices_of(source.module)}
    return Sensitivity.of([unit_of(group, matrices, target) for group in sensitivities], data)


def measure_parts(
    source: Source, shares: Mapping[str, Sequence[Any]], parts: Sequence[Part]
) -> Iterator[tuple[Part, list[GroupSensitivity]]]:
    """Measure some parts of a source, in running order; its module is as before when this ends.

    Args:
        shares: windows by what they are for, see `split_windows`.

    Raises:
        CalibrationError: activations are not finite.
    """
    from jisu.exporter.tracing.expert_layers import expert_layers

    with expert_layers(source.module):
        yield from _measure_parts(source, shares, parts)


def _measure_parts(
    source: Source, shares: Mapping[str, Sequence[Any]], parts: Sequence[Part]
) -> Iterator[tuple[Part, list[GroupSensitivity]]]:
    from jisu.calibration.sensitivity import Scorer, measure_groups
    from jisu.calibration.w8a8.feeders import find_feeders

    layers = list(decoder_layers(source))
    scorer = Scorer(source.module, layers, [window[:SCORED_TOKENS] for window in shares["score"]])
    layers_left = {part for part in parts if isinstance(part, int)}
    if layers_left:
        measured = measure_groups(
            source.module,
            layers,
            calibration=shares["statistics"],
            scorer=scorer,
            candidates=_layer_candidates,
            feeders=find_feeders(source.module, layers, shares["statistics"][0]),
            known={index: () for index in range(len(layers)) if index not in layers_left},
        )
        for index, groups in measured:
            if index in layers_left:
                yield index, groups
            if index == max(layers_left):  # nobody needs what enters the layers after it
                break
    if EMBEDDINGS in parts:
        embeddings = [matrix for matrix in matrices_of(source.module) if matrix.embedding]
        yield EMBEDDINGS, measure_embeddings(source, embeddings, scorer, shares["statistics"])


def check_sensitivity_file(path: Path, data: CalibrationData) -> None:
    """Raise InputError for a file that cannot be used with these windows, before anything long begins.

    Whether it is of the same model is seen when it is used: that takes the weights.
    """
    check_place(path)
    read_figures(path, {"schema": SCHEMA, "windows": data.fingerprint, **_stored_candidates()})


def _stored_candidates() -> dict[str, Any]:
    record = Sensitivity(units=(), candidates=_kinds(), calibration={}).to_dict()
    return {"candidates": record["candidates"]}


def _kinds() -> dict[str, dict[str, WeightFormat]]:
    return {"layers": LAYER_FORMATS, "tables": EMBEDDING_FORMATS}


def _layer_candidates(group: GroupStatistics) -> Iterator[tuple[str, Sequence[BlockQuantized]]]:
    for label, form in LAYER_FORMATS.items():
        fitted = fit_block_size(form, group.weights[0].shape[1])
        if fitted is not None:
            yield label, quantize_group(group, fitted)


def measure_embeddings(
    source: Source,
    embeddings: Sequence[Matrix],
    scorer: Scorer,
    windows: Sequence[Any] = (),
    *,
    left_by_text: float | None = None,
) -> list[GroupSensitivity]:
    """What each format costs each embedding; those that are output projections are rounded on the windows.

    Args:
        windows: int64 [T] each.
        left_by_text: instead, all are rounded to the nearest, and so much of what that costs an output projection in
            few bits is what rounding it on text is taken to cost.
    """
    import torch

    from jisu.calibration.model.weight_values import OwnValues, set_rounded
    from jisu.calibration.sensitivity import GroupSensitivity
    from jisu.calibration.weights.round_to_nearest import round_to_nearest

    sensitivities = []
    for storage in dict.fromkeys(embedding.storage for embedding in embeddings):
        names = tuple(embedding.name for embedding in embeddings if embedding.storage == storage)
        matrix = next(embedding for embedding in embeddings if embedding.storage == storage)
        weight: Any = source.module.get_submodule(names[0]).weight
        own, kl = OwnValues(weight, put_aside=None if source.paged is None else source.paged.store_tensor), {}
        projects = any(isinstance(source.module.get_submodule(name), torch.nn.Linear) for name in names)
        try:
            for label, form in EMBEDDING_FORMATS.items():
                fitted = fit_block_size(form, matrix.features)
                if fitted is None:
                    continue
                own.restore()
                choice = FormatChoice(formats=dict.fromkeys(names, fitted), algorithm="gptq")
                result = None
                if left_by_text is None:
                    result = quantize_output_projections(source, choice, windows).get(f"{names[0]}.weight")
                if result is None:
                    result = round_to_nearest(float32_array(weight), fitted.to_block_format(), layer=names[0])
                set_rounded(weight, result)
                on_text = left_by_text is not None and projects and has_few_bits(choice, names[0])
                kl[label] = scorer.divergence() * (left_by_text if on_text and left_by_text is not None else 1.0)
        finally:
            own.restore()
        sensitivities.append(GroupSensitivity(names=names, kl=kl))
    return sensitivities


def unit_of(group: GroupSensitivity, matrices: Mapping[str, Matrix], target: str) -> Unit:
    """What was measured of a group, with the bytes that each format takes in files of a target."""
    members = list({matrices[name].storage: matrices[name] for name in group.names}.values())
    narrow = stores_all_bits(target, list(matrices.values()))
    candidates = EMBEDDING_FORMATS if members[0].embedding else LAYER_FORMATS
    elements = sum(member.elements for member in members)
    sizes = {FLOAT: 4 * elements}
    for label in group.kl:
        form = fit_block_size(candidates[label], members[0].features, short=takes_short_blocks(target))
        if form is None or (form.bits in STORED_BITS and not narrow):
            continue  # measured for another target
        block_format = form.to_block_format()
        sizes[label] = sum(
            block_format.stored_bytes(member.rows, member.features, layer=member.name, scale_bytes=scale_bytes(target))
            for member in members
        )
    return Unit(
        names=group.names,
        kind="tables" if members[0].embedding else "layers",
        features=members[0].features,
        elements=elements,
        kl={FLOAT: 0.0, **{label: kl for label, kl in group.kl.items() if label in sizes}},
        bytes=sizes,
    )
