"""Compares ways to give the layers of int4 more bits: by shape, and by what rounding each is expected to cost.

    python -m benchmarks.studies.int4_bits CHECKPOINT --out FILE.json \\
        [--texts development --wheels FOLDER | --texts gate]

`benchmarks.studies.rounding_study` says on which texts, and how.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from jisu.benchmarks.studies.rounding_study import (
    is_wanted,
    judged_domains,
    open_report,
    save_report,
    score_rounded,
    study_parser,
)
from jisu.benchmarks.studies.weight_formats import Domains, table
from jisu.exporter.precision.precision import PRECISIONS, WeightFormat
from jisu.exporter.quantization.calibration_data import read_calibration_data
from jisu.exporter.quantization.matrices import Matrix, matrices_of
from jisu.exporter.quantization.quantize_source import quantize_source
from jisu.exporter.quantization.weight_formats import FormatChoice, choose_formats
from jisu.exporter.sources import load_source


def stored(choice: FormatChoice, matrices: Sequence[Matrix]) -> int:
    """Bytes of all matrices that have integers, each storage once."""
    owners = {matrix.storage: matrix for matrix in matrices}
    total = 0
    for matrix in owners.values():
        form = choice.formats[matrix.name]
        if isinstance(form, WeightFormat):
            block_format = form.to_block_format()
            total += block_format.stored_bytes(matrix.rows, matrix.features, layer=matrix.name, scale_bytes=2)
    return total


def ways(matrices: Sequence[Matrix]) -> Iterator[tuple[str, FormatChoice]]:
    """Name and choice of each way; a choice by shape is final, the others are spread anew in its bytes."""
    for of_three, words in ((1, "a third"), (2, "two thirds"), (3, "all")):
        choice = choose_formats(matrices, replace(PRECISIONS["int4"], outer=of_three))
        yield f"8 bits by shape, {words} of the longest", replace(choice, spread=None)
        yield f"8 bits by expected loss, bytes of {words}", choice
        narrow = choose_formats(matrices, PRECISIONS["int4"], stored_bits=True)
        few, *_, six, eight = narrow.spread or ()
        yield f"6 and 8 bits by expected loss, bytes of {words}", replace(choice, spread=(few, six, eight))


def main(arguments: list[str] | None = None) -> None:
    options = study_parser(__doc__ or "").parse_args(arguments)
    source, report = load_source(options.checkpoint), open_report(options)
    with judged_domains(source, options) as domains:
        data, matrices = read_calibration_data(source), matrices_of(source.module)
        for name, choice in ways(matrices):
            if not is_wanted(name, options, report):
                continue
            report["rows"][name] = measure(source, choice, data, domains, matrices)
            save_report(options, report)
            print(table({"rows": {name: report["rows"][name]}}).splitlines()[-1], flush=True)


def measure(
    source: Any, choice: FormatChoice, data: Any, domains: Domains, matrices: Sequence[Matrix]
) -> dict[str, Any]:
    """Quantize and score."""
    started = time.process_time()
    quantized = quantize_source(source, choice, data=data)
    seconds = time.process_time() - started
    scores = score_rounded(source, quantized.by_name, domains)
    spread = {"spread": quantized.record["spread"]} if "spread" in quantized.record else {}
    return {"bytes": stored(choice, matrices), "seconds": seconds, "domains": scores, **spread}


if __name__ == "__main__":
    main()
