"""Compares ways to round a mixed precision within some bytes: codes of one walk, another walk behind the chosen layers,
less damping, more windows, all parts of the mixture alike.

    python -m benchmarks.studies.mixed_precision_rounding CHECKPOINT --megabytes 87.5 --out FILE.json \\
        [--texts development --wheels FOLDER | --texts gate] [--only "NAME;NAME"]

`benchmarks.studies.rounding_study` says on which texts, and how.
"""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any
from unittest import mock

from jisu.benchmarks.studies.rounding_study import (
    is_wanted,
    judged_domains,
    open_report,
    save_report,
    score_rounded,
    study_parser,
)
from jisu.benchmarks.studies.weight_formats import Domains
from jisu.calibration.sequential import quantize_sequentially
from jisu.calibration.weights.gptq import GptqOptions
from jisu.exporter.quantization.calibration_data import MIX_SHARES, MIX_WINDOWS, CalibrationData, read_calibration_data
from jisu.exporter.quantization.knapsack import choose_options
from jisu.exporter.quantization.quantize_source import quantize_source
from jisu.exporter.quantization.sensitivity import FLOAT, Sensitivity, split_places
from jisu.exporter.quantization.walked_sensitivity import walk_all_formats
from jisu.exporter.quantization.weight_formats import FormatChoice, fit_block_size
from jisu.exporter.sources import load_source


@dataclass(frozen=True, kw_only=True)
class Way:
    """How a choice is rounded.

    Attributes:
        without: labels of formats that may not be chosen.
        again: each layer on what the chosen ones before it give, instead of the codes of the walk in all formats.
        damping: of GPTQ; None for its own.
        more: windows of calibration text, in multiples of those that an export uses.
        alike: every part of the mixture counts alike.
    """

    without: tuple[str, ...] = ()
    again: bool = False
    damping: float | None = None
    more: int = 1
    alike: bool = False


WAYS = {
    "codes of the walk": Way(),
    "codes of the walk, 4, 6 and 8 bits": Way(without=("int5",)),
    "codes of the walk, 4 bits in blocks of 64 alone": Way(without=("int4-block32",)),
    "rounded again": Way(again=True),
    "rounded again, damping 0.03": Way(again=True, damping=0.03),
    "rounded again, parts alike": Way(again=True, alike=True),
    "rounded again, three times the windows": Way(again=True, more=3),
}


def choose(
    sensitivity: Sensitivity, *, most: float, without: Sequence[str] = ()
) -> tuple[FormatChoice, dict[str, Any]]:
    """(the choice of least expected divergence within so many bytes of weights, its bytes, formats and divergence)."""
    labels = [[label for label in unit.kl if label not in without] for unit in sensitivity.units]
    pairs = list(zip(sensitivity.units, labels, strict=True))
    picks = choose_options(
        [[max(0.0, unit.kl[label]) for label in own] for unit, own in pairs],
        [[float(unit.bytes[label]) for label in own] for unit, own in pairs],
        limit=most,
    )
    assert picks is not None, f"no choice is within {most} bytes"
    chosen = [(unit, own[pick]) for (unit, own), pick in zip(pairs, picks, strict=True)]
    formats = {
        name: None if label == FLOAT else fit_block_size(sensitivity.candidates[unit.kind][label], unit.features)
        for unit, label in chosen
        for name in unit.names
    }
    megabytes: Counter[str] = Counter()
    for unit, label in chosen:
        megabytes[label if unit.kind == "layers" else f"embedding {label}"] += unit.bytes[label]
    record = {
        "bytes": sum(megabytes.values()),
        "formats": dict(megabytes),
        "expected_kl": sum(max(0.0, unit.kl[label]) for unit, label in chosen),
    }
    return FormatChoice(formats=formats, algorithm="gptq"), record


@contextmanager
def rounding(way: Way, parts: Sequence[str]) -> Iterator[None]:
    """Let GPTQ and its statistics be as a way says.

    Args:
        parts: of the mixture, of each window.
    """
    counts = Counter(parts)
    weights = [1 / counts[part] for part in parts] if way.alike else None
    options = GptqOptions() if way.damping is None else GptqOptions(damping=way.damping)

    def options_of(**named: Any) -> GptqOptions:
        return GptqOptions(**named) if named else options  # an output projection has its own

    with (
        mock.patch("jisu.calibration.weights.gptq.GptqOptions", options_of),
        mock.patch(
            "jisu.calibration.sequential.quantize_sequentially", partial(quantize_sequentially, weights=weights)
        ),
    ):
        yield


def read_mixture(source: Any, more: int = 1) -> CalibrationData:
    """The windows of a mixed precision, or so many times as many."""
    shares = {part: more * share for part, share in MIX_SHARES.items()}
    return read_calibration_data(source, None, windows=more * MIX_WINDOWS, shares=shares)


def score(source: Any, parts: Mapping[str, Any], domains: Domains) -> dict[str, Any]:
    """Worst domain, mean and all domains' mean KL divergence with rounded weights."""
    kls = {name: float(figures["mean_kl"]) for name, figures in score_rounded(source, parts, domains).items()}
    worst = max(kls, key=lambda name: kls[name])
    return {"worst_kl": kls[worst], "worst_domain": worst, "mean_kl": sum(kls.values()) / len(kls), "domains": kls}


def main(arguments: list[str] | None = None) -> None:
    parser = study_parser(__doc__ or "")
    parser.add_argument("--megabytes", type=float, required=True, help="most of all weights together")
    options = parser.parse_args(arguments)
    source, report = load_source(options.checkpoint), open_report(options)
    with judged_domains(source, options) as domains:
        mixtures = {1: read_mixture(source)}
        walked = walk_all_formats(source, mixtures[1], target="ort-cpu")
        assert walked is not None, "a model whose layers one walk reaches"
        sensitivity, layers = walked
        for name, way in WAYS.items():
            if not is_wanted(name, options, report):
                continue
            if way.more not in mixtures:
                mixtures[way.more] = read_mixture(source, way.more)
            data = mixtures[way.more]
            places = split_places(data)["statistics"]
            choice, record = choose(sensitivity, most=1e6 * options.megabytes, without=way.without)
            started = time.perf_counter()
            with rounding(way, [data.parts[place] for place in places]):
                parts = quantize_source(
                    source,
                    choice,
                    data=data,
                    windows=[data.windows.ids[place] for place in places],
                    walked=None if way.again else layers,
                ).by_name
            seconds = time.perf_counter() - started
            report["rows"][name] = {**record, "seconds": seconds, **score(source, parts, domains)}
            save_report(options, report)
            row = report["rows"][name]
            print(
                f"| {name} | {row['bytes'] / 1e6:.1f} MB | {row['worst_kl']:.3f} | {row['mean_kl']:.3f} |", flush=True
            )


if __name__ == "__main__":
    main()
