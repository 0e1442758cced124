"""Layers whose weights and inputs both have 8 bits (W8A8), and which of them are better left with 8-bit weights only.

Language models have layers whose inputs hold a few enormous values, for which one scale is too coarse. Layers are
ranked by how far their rounding moves each token, and the worst keep float32 inputs, as many as the budget asks for.

Where the ranges come from one kind of text only, another kind leaves them: with English prose alone, Chinese has 10
times the divergence. Windows of random tokens, each behind a special token, reach further than any text.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.exporter.contract.artifact import ONE_PASS_KINDS
from jisu.exporter.jobs.stages import ReportProgress
from jisu.exporter.precision.precision import Int8MatmulFormat, WeightFormat
from jisu.exporter.quantization.calibration_mixture import random_windows_of
from jisu.exporter.quantization.weight_formats import FormatChoice
from jisu.exporter.sources.half_width import float32_array
from jisu.exporter.sources.layer_stack import decoder_layers

if TYPE_CHECKING:
    from jisu.calibration.statistics.statistics import InputStatistics, Statistics
    from jisu.calibration.w8a8.feeders import Feeder
    from jisu.calibration.w8a8.matmul import Int8Matmul
    from jisu.exporter.quantization.calibration_data import CalibrationData
    from jisu.exporter.sources.source import Source

# Of the smoothing; measured on SmolLM2-135M, less leaves outliers in the inputs, more moves them into the weights.
STRENGTHS = (0.5, 0.65, 0.75, 0.85)
# Windows that no range is taken from, of as many parts of the mixture as there are, and tokens of each: what is chosen
# there has not seen its own extremes.
_CHECKED, _CHECKED_TOKENS = 5, 128
# Of these, how many products are compared on, beside as many random tokens.
_COMPARED = 3
# Windows of random tokens whose ranges count beside those of the text; twice as many help by little.
RANDOM_WINDOWS = 16
# Shares of the budget that the rounded layers may use: the gate judges on other texts. Scales that each token has for
# itself lose there about as much, fixed ones up to three times as much in a language that the mixture has not.
_SHARE, _SHARE_OF_STATIC = 0.5, 0.15
KEPT_FORMAT = WeightFormat(bits=8, block_size=32, symmetric=True)


@dataclass(frozen=True, kw_only=True)
class FoundProducts:
    """Int8 matmuls by module path, and the layers that are to have weights in 8 bits only.

    Attributes:
        products: by module path.
        kept: module paths in groups, worst first.
        record: how they were chosen, for the manifest.
    """

    products: dict[str, Int8Matmul]
    kept: tuple[tuple[str, ...], ...]
    record: dict[str, Any]


def find_products(
    source: Source,
    choice: FormatChoice,
    data: CalibrationData,
    *,
    max_kl: float,
    feeders: Mapping[str, Feeder],
    progress: ReportProgress | None = None,
) -> FoundProducts:
    """Quantize every layer that the choice gives a `Int8MatmulFormat`.

    Args:
        source: its module is changed while this runs and restored before it ends.
        data: calibration windows; their statistics are collected where they have none.
        max_kl: budget of the whole model, mean KL divergence in nats.
        feeders: see `calibration.w8a8.feeders.find_feeders`.
        progress: called with the steps done and their number.

    Raises:
        CalibrationError: activations that are not finite, or statistics of something else.
    """
    from jisu.calibration.sensitivity import Scorer
    from jisu.calibration.w8a8.layer_errors import choose_products
    from jisu.calibration.w8a8.lower_bounds import lower_bound, lowest_inputs
    from jisu.calibration.w8a8.matmul import emulated, quantize_products

    forms = {name: form for name, form in choice.formats.items() if isinstance(form, Int8MatmulFormat)}
    ids, length = data.windows.ids, data.windows.ids.shape[1]
    held_back = _held_back(data)
    checked = [window[:_CHECKED_TOKENS] for window in ids[held_back]]
    *varied, unseen = random_windows_of(source, count=RANDOM_WINDOWS + 1, length=length)
    layers = list(decoder_layers(source))
    # One operator instead of seven. Only where each token is normed and no cache holds what was rounded before.
    fixable = source.model_kind in ONE_PASS_KINDS
    with tempfile.TemporaryDirectory(prefix="jisu-") as folder:
        with lowest_inputs(source.module, forms) as lowest:
            text = data.statistics
            if text is None:
                used = np.delete(ids, held_back, axis=0) if len(ids) > _CHECKED else ids
                text = _collect(source, used, Path(folder, "text"), forms, progress)
            random = _collect(source, np.stack(varied), Path(folder, "random"), forms, progress)
        groups = [part for names in text.groups if (part := tuple(name for name in names if name in forms))]

        def candidates(names: tuple[str, ...]) -> Iterator[dict[str, Int8Matmul]]:
            seen: InputStatistics = text.of(names[0])
            seen = replace(seen, max_abs=np.maximum(seen.max_abs, random.of(names[0]).max_abs))
            modules: list[Any] = [source.module.get_submodule(name) for name in names]
            weights = [float32_array(module.weight) for module in modules]
            form = forms[names[0]]
            bound = lower_bound(lowest[names[0]], float(seen.max_abs.max()))
            for static in (True, False) if fixable and not form.static else (form.static,):
                for strength in STRENGTHS:
                    results = quantize_products(
                        seen,
                        weights,
                        static=static,
                        strength=strength,
                        lower_bound=None if static else bound,
                        feeder=feeders.get(names[0]),
                        fit_pairs=form.kernels == "any",
                    )
                    yield dict(zip(names, results, strict=True))

        compared = [*checked[:_COMPARED], unseen[:_CHECKED_TOKENS]]
        chosen = choose_products(
            source.module, layers, compared, groups, candidates, faster=_is_fixed, progress=progress
        )
        ranked = sorted(chosen, key=lambda pair: -pair[1])
    scorer = Scorer(source.module, layers, checked)

    def divergence(kept: int) -> float:
        products = {name: product for group, _ in ranked[kept:] for name, product in group.items()}
        with emulated(source.module, products):
            return scorer.divergence()

    share = _SHARE_OF_STATIC if any(form.static for form in forms.values()) else _SHARE
    count, measured = _fewest(divergence, len(ranked), share * max_kl)
    kept = tuple(tuple(group) for group, _ in ranked[:count])
    record = {
        "kept": [{"names": list(group), "token_error": error} for group, error in ranked[:count]],
        "largest_token_error": ranked[count][1] if count < len(ranked) else None,
        "calibration_kl": [{"kept": number, "kl": kl} for number, kl in sorted(measured.items())],
        "random_windows": RANDOM_WINDOWS,
    }
    products = {name: product for group, _ in ranked[count:] for name, product in group.items()}
    return FoundProducts(products=products, kept=kept, record=record)


def _is_fixed(products: Mapping[str, Int8Matmul]) -> bool:
    """Whether the input's scale is known before the model runs."""
    return next(iter(products.values())).format.activation is not None


def _held_back(data: CalibrationData) -> list[int]:
    """Places of the windows to check with: the first ones of every part, or the last ones where parts are unknown."""
    from jisu.calibration.text.mixture import take_turns

    count = len(data.windows.ids)
    return take_turns(data.parts)[:_CHECKED] if data.parts else list(range(count))[-_CHECKED:]


def _collect(
    source: Source, ids: Any, folder: Path, forms: dict[str, Int8MatmulFormat], progress: ReportProgress | None
) -> Statistics:
    from jisu.calibration.statistics.collect import CollectSettings, collect
    from jisu.calibration.text.windows import Windows

    return collect(
        source.module,
        Windows(ids=ids, seed=0),
        folder,
        settings=CollectSettings(),
        keep=lambda name: name not in forms,
        progress=progress,
    )


def _fewest(divergence: Any, groups: int, limit: float) -> tuple[int, dict[int, float]]:
    """(fewest groups to keep so that the divergence is within the limit, every number tried -> divergence)."""
    tried = {0: divergence(0)}
    if tried[0] <= limit:
        return 0, tried
    low, high = 0, min(4, groups)
    while high < groups:
        tried[high] = divergence(high)
        if tried[high] <= limit:
            break
        low, high = high, min(2 * high, groups)
    while high - low > 1:
        middle = (low + high) // 2
        tried[middle] = divergence(middle)
        low, high = (low, middle) if tried[middle] <= limit else (middle, high)
    return high, tried


def describe_products(record: dict[str, Any]) -> Sequence[str]:
    """One sentence about the layers that keep float32 inputs."""
    kept = [name for group in record["kept"] for name in group["names"]]
    if not kept:
        return []
    return [
        f"{len(kept)} layers keep float32 inputs, because 8 bits are too coarse for theirs: "
        f"{', '.join(kept[:4])}{f' and {len(kept) - 4} more' if len(kept) > 4 else ''}."
    ]
