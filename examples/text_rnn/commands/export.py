"""A trained model -> a verified engine."""

from __future__ import annotations

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("model", type=Path, metavar="MODEL", help="what train wrote")
    parser.add_argument("--data", required=True, type=Path, metavar="DATA", help="what prepare wrote")
    parser.add_argument("--out", required=True, type=Path, metavar="FOLDER", help="a new folder for the engine")
    parser.add_argument("--target", default="ort-cpu", metavar="NAME", help="as in jisu export")
    parser.add_argument("--precision", default="fp32", metavar="NAME", help="as in jisu export: fp32, int8, fp16 ...")


def run(arguments: argparse.Namespace) -> None:
    from examples.text_rnn.exporting import export_model
    from examples.text_rnn.trained_model import check_same_vocabulary, read_model

    model = read_model(arguments.model)
    check_same_vocabulary(model, arguments.data)
    artifact = export_model(
        model, arguments.data, arguments.out, target=arguments.target, precision=arguments.precision
    )
    size = sum(path.stat().st_size for path in artifact.folder.iterdir())
    print(f"{artifact.folder}: {size / 1e6:.1f} MB, accepted after {len(artifact.manifest.gate['checks'])} checks")
