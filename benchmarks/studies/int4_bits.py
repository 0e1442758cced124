"""Compares ways to give the layers of int4 more bits: by shape, and by what rounding each is expected to cost.

    python -m benchmarks.studies.int4_bits CHECKPOINT --out FILE.json \\
        [--texts development --wheels FOLDER | --texts gate]

The checkpoint runs in torch with weights that were rounded and put back, against itself, as if its file had no grid.
What is chosen is chosen on the development texts (`benchmarks.studies.development_texts`); the gate's are for a last
look. Rows that the file already has are not measured again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np

from jisu.benchmarks.studies.development_texts import development_domains
from jisu.benchmarks.studies.weight_formats import Domains, Subject, table
from jisu.calibration.text.windows import Windows
from jisu.exporter.gate.domain_tokens import domain_tokens
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
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--texts", choices=("development", "gate"), default="development")
    parser.add_argument("--wheels", type=Path, help="folder of the wheels that development texts are in")
    parser.add_argument("--tokens", type=int, default=256, help="of each domain, about (default: %(default)s)")
    parser.add_argument("--only", default="", help="names of rows, separated by semicolons (default: all)")
    options = parser.parse_args(arguments)
    source = load_source(options.checkpoint)
    report: dict[str, Any] = {"checkpoint": Path(options.checkpoint).name, "texts": options.texts, "rows": {}}
    if options.out.exists():
        report = json.loads(options.out.read_text(encoding="utf-8"))
        assert report["texts"] == options.texts, f"{options.out} was measured on other texts"
    assert source.tokenizer is not None, "texts need a tokenizer"
    texts = list(domain_tokens(source.tokenizer, source.model.vocab_size).domains) if options.texts == "gate" else []
    texts = texts or development_domains(source.tokenizer, options.wheels, tokens=options.tokens)
    subject = Subject(source.module, Windows(ids=np.zeros((0, 0), np.int64), seed=0))
    only = [name.strip() for name in options.only.split(";") if name.strip()]
    with TemporaryDirectory() as folder:
        domains = Domains(texts, subject.logits, tokens=options.tokens, folder=Path(folder))
        data, matrices = read_calibration_data(source), matrices_of(source.module)
        for name, choice in ways(matrices):
            if name in report["rows"] or (only and name not in only):
                continue
            report["rows"][name] = measure(source, choice, data, domains, matrices)
            options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            print(table({"rows": {name: report["rows"][name]}}).splitlines()[-1], flush=True)


def measure(
    source: Any, choice: FormatChoice, data: Any, domains: Domains, matrices: Sequence[Matrix]
) -> dict[str, Any]:
    """Quantize, put back, score; the module's own weights are back at the end."""
    import torch

    started = time.process_time()
    quantized = quantize_source(source, choice, data=data)
    seconds = time.process_time() - started
    own = {name: source.module.get_parameter(name).detach().clone() for name in quantized.by_name}
    try:
        for name, part in quantized.by_name.items():
            source.module.get_parameter(name).data.copy_(torch.from_numpy(part.dequantize()))
        scores = domains.score(Subject(source.module, Windows(ids=np.zeros((0, 0), np.int64), seed=0)).logits)
    finally:
        for name, value in own.items():
            source.module.get_parameter(name).data.copy_(value)
    spread = {"spread": quantized.record["spread"]} if "spread" in quantized.record else {}
    return {"bytes": stored(choice, matrices), "seconds": seconds, "domains": scores, **spread}


if __name__ == "__main__":
    main()
