"""``jisu export``: checkpoint in, verified artifact out."""

from __future__ import annotations

import argparse
import contextlib
import json
import re
import sys
from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.commands.calibration_argument import add_calibration_argument
from jisu.exporter.commands.checkpoint_arguments import add_checkpoint_arguments
from jisu.exporter.commands.ray_argument import add_ray_argument
from jisu.exporter.contract.artifact import MAX_SHARD_BYTES, SPEECH, TARGETS, TOKENIZER, Artifact
from jisu.exporter.contract.errors import GateRejectedError
from jisu.exporter.jobs.termination import ending_cleanly
from jisu.exporter.precision.half_precision import describe_half
from jisu.exporter.precision.precision import PRECISIONS
from jisu.exporter.quantization.weight_formats import BLOCK_SIZES
from jisu.exporter.reports.describe import size_in_words
from jisu.exporter.reports.describe_quality import describe_worst
from jisu.exporter.reports.junit import check_place, gate_cases, write_junit
from jisu.exporter.request import ExportRequest
from jisu.exporter.sources.embedding.description import POOLING_MODES
from jisu.exporter.sources.reranking.named_prompts import NAMED_PROMPTS

if TYPE_CHECKING:
    from jisu.exporter.jobs.stages import Stages

_UNITS = {"": 1, "B": 1, "KB": 10**3, "MB": 10**6, "GB": 10**9, "KIB": 1 << 10, "MIB": 1 << 20, "GIB": 1 << 30}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add_checkpoint_arguments(parser)
    parser.add_argument(
        "--out", type=Path, required=True, help="folder of the artifact; must not exist yet, but see --overwrite"
    )
    parser.add_argument(
        "--overwrite",
        action="store_true",
        help="replace the artifact at --out when the new one is accepted; a folder that jisu did not write is refused",
    )
    parser.add_argument(
        "--target",
        choices=TARGETS,
        default="ort-cpu",
        help="runtime that the graph is optimized for (default: %(default)s)",
    )
    parser.add_argument(
        "--precision",
        choices=tuple(PRECISIONS),
        help="number format of the weights (default: fp32; mixed with --max-kl or --target-size alone)",
    )
    add_calibration_argument(parser, optional=True)
    parser.add_argument(
        "--pooling",
        choices=POOLING_MODES,
        help="make an embedding model of a plain encoder; folders of sentence-transformers say it themselves",
    )
    ranking = parser.add_argument_group(
        "rerankers that are decoders; folders of sentence-transformers with LogitScore say it themselves"
    )
    ranking.add_argument(
        "--rerank-prompt",
        metavar="NAME|FILE",
        help=f"score pairs by this prompt: {', '.join(NAMED_PROMPTS)}, or a text file with {{query}} and {{document}}, "
        "and {instruction} where the model takes one",
    )
    ranking.add_argument(
        "--yes-token",
        metavar="TEXT",
        help="token whose logit says that the document answers (default: both tokens of the named prompt)",
    )
    ranking.add_argument(
        "--no-token",
        metavar="TEXT",
        help="token whose logit is taken off; without one the score is the other's logit",
    )
    parser.add_argument(
        "--calibration-field", default="text", metavar="NAME", help="column or key of the text (default: %(default)s)"
    )
    weights = parser.add_argument_group("integer weights")
    weights.add_argument(
        "--keep",
        action="append",
        default=[],
        metavar="PATTERN",
        help="layers to keep in fp32, such as '*.down_proj', or vision.onnx or hearing.onnx for all that reads images "
        "or hears; repeatable",
    )
    weights.add_argument(
        "--block-size",
        type=int,
        choices=BLOCK_SIZES,
        help="input features per scale (default: depends on the precision)",
    )
    weights.add_argument(
        "--target-size",
        type=size_in_bytes,
        metavar="SIZE",
        help="the mixed precision closest to the source within this size, such as 90MB",
    )
    weights.add_argument(
        "--max-memory",
        type=size_in_bytes,
        metavar="SIZE",
        help="refuse an export that would hold more memory than this, such as 6GB, and end one that does (default: no "
        "limit); a larger artifact is verified in pieces",
    )
    weights.add_argument(
        "--device",
        default="cpu",
        metavar="NAME",
        help="what calculates the source's layers, such as cuda: for calibration and for the gate's truth; one layer "
        "at a time is on it (default: cpu)",
    )
    weights.add_argument(
        "--max-shard-size",
        type=size_in_bytes,
        default=MAX_SHARD_BYTES,
        metavar="SIZE",
        help="largest file of weights; more of them are numbered (default: 4GB)",
    )
    weights.add_argument(
        "--keep-quantization",
        action="store_true",
        help="keep the integers of a GGUF file or of a quantized folder instead of quantizing anew",
    )
    weights.add_argument(
        "--assume-vnni",
        action="store_true",
        help="w8a8 only: use the full range of codes, which needs a CPU with VNNI or AMX, or an Arm CPU",
    )
    weights.add_argument(
        "--sensitivity",
        type=Path,
        metavar="FILE",
        help="measurements that mixed precision is chosen by; reused when the file exists",
    )
    signs = weights.add_mutually_exclusive_group()
    signs.add_argument(
        "--symmetric", action="store_true", default=None, help="no zero points: codes are symmetric around 0"
    )
    signs.add_argument("--asymmetric", action="store_false", dest="symmetric", help="one zero point per block")
    limits = parser.add_argument_group(
        "quality limits of a reduced precision, measured on held-out text; an export beyond one is rejected"
    )
    limits.add_argument(
        "--max-kl",
        type=float,
        metavar="NATS",
        help="largest mean KL divergence in any domain of text; without --precision, finds the smallest mixed "
        "precision within it",
    )
    limits.add_argument(
        "--max-kl-mean", type=float, metavar="NATS", help="largest mean KL divergence, averaged over the domains"
    )
    limits.add_argument(
        "--min-top1",
        type=float,
        metavar="SHARE",
        help="smallest agreement with the source in the most likely token in any domain, 0 to 1",
    )
    limits.add_argument(
        "--max-ppl-ratio",
        type=float,
        metavar="RATIO",
        help="largest perplexity as a multiple of the source's in any domain",
    )
    limits.add_argument(
        "--max-confident-changes",
        type=float,
        metavar="SHARE",
        help="largest share of the tokens that the source is confident of and the export changes, 0 to 1",
    )
    limits.add_argument(
        "--min-cosine",
        type=float,
        metavar="COSINE",
        help="embedding models: smallest cosine of a vector with the source's, -1 to 1",
    )
    limits.add_argument(
        "--min-recall",
        type=float,
        metavar="SHARE",
        help="embedding models: smallest share of the 10 nearest texts that are the source's, 0 to 1",
    )
    limits.add_argument(
        "--evaluation", type=Path, metavar="TEXT", help="text to measure quality on (default: built-in held-out texts)"
    )
    parser.add_argument(
        "--dry-run",
        action="store_true",
        help="print the size, time and memory that the export would take; reads no weights, writes nothing",
    )
    parser.add_argument(
        "--no-advice", action="store_true", help="do not measure how fast the artifact runs on this machine"
    )
    add_ray_argument(parser, what="rounding without text, sensitivities and the gate's truth")
    parser.add_argument("--report", type=Path, metavar="FILE", help="write the gate's checks as JUnit XML")
    parser.add_argument(
        "--json",
        action="store_true",
        help="print the result as one JSON object on standard output, also when the gate rejects it",
    )
    parser.add_argument("--quiet", action="store_true", help="print nothing but errors, and the object of --json")


def size_in_bytes(text: str) -> int:
    """``90MB``, ``1.5 GB`` or ``200MiB`` -> bytes; raises what argparse turns into a usage error."""
    match = re.fullmatch(r"\s*([0-9]+(?:\.[0-9]+)?)\s*([A-Za-z]*)\s*", text)
    if match is None or match[2].upper() not in _UNITS:
        raise argparse.ArgumentTypeError(
            f"{text!r} is not a size; use a number with kB, MB, GB, MiB or GiB, such as 90MB"
        )
    return int(float(match[1]) * _UNITS[match[2].upper()])


def _request(arguments: argparse.Namespace, stages: Stages) -> ExportRequest:
    """What is requested, by the arguments of its fields' names."""
    names = {field.name for field in fields(ExportRequest) if field.init} - {"max_perplexity_ratio", "stages"}
    options = {name: getattr(arguments, name) for name in names}
    return ExportRequest(**options, max_perplexity_ratio=arguments.max_ppl_ratio, stages=stages)


def _dry_run(request: ExportRequest, *, as_json: bool) -> int:
    from jisu.exporter.dry_run import estimate_export, require_memory_of
    from jisu.exporter.estimates.disk_space import require_disk

    estimate = estimate_export(request)
    sys.stdout.write(f"{json.dumps(estimate.to_dict(), ensure_ascii=False) if as_json else estimate.describe()}\n")
    require_memory_of(estimate, request.max_memory)
    require_disk(estimate.disk_needed, estimate.disk_free, out=request.folder)
    return 0


def _advise(artifact: Artifact, max_memory: int | None) -> None:
    """Say how fast the artifact runs on this machine, and keep it with its timings; not of one that takes more memory.

    Args:
        max_memory: of the export, in bytes, which holds half of it by now.
    """
    from jisu.exporter.estimates.advice import advise, can_be_measured, record_advice
    from jisu.exporter.gate.open_candidate import opened_size
    from jisu.exporter.gate.opened_sizes import OPEN_BYTES

    size = opened_size(artifact) if can_be_measured(artifact) else 0
    if size > (OPEN_BYTES if max_memory is None else max_memory // 2):
        sys.stderr.write(f"Its speed was not measured, which takes {size / 1e9:.1f} GB; `jisu compare` does.\n")
        return
    advice = advise(artifact)
    if advice is None:
        return
    sys.stderr.write("".join(f"{line}\n" for line in advice.describe()))
    with contextlib.suppress(OSError):  # the artifact is published and whole; this is beside it
        record_advice(artifact, advice)


def _outcome(arguments: argparse.Namespace, gate: dict[str, Any], stages: Stages) -> dict[str, Any]:
    """What a script wants to know of an export: the verdict with its checks, and what it took."""
    return {
        "accepted": gate.get("accepted") is True,
        "artifact": None,
        "target": arguments.target,
        "precision": arguments.precision,
        "size": None,
        "checks": [
            {name: check.get(name) for name in ("name", "passed", "value", "limit", "unit")}
            for check in gate.get("checks", [])
        ],
        "quality": describe_worst(gate),
        "notes": gate.get("notes", []),
        **stages.to_dict(),
    }


def _print_json(outcome: dict[str, Any]) -> None:
    sys.stdout.write(json.dumps(outcome, ensure_ascii=False) + "\n")


def _write_report(arguments: argparse.Namespace, gate: dict[str, Any] | None) -> None:
    if arguments.report is not None and gate is not None:
        write_junit(arguments.report, f"gate of {arguments.out}", gate_cases(gate))


def run(arguments: argparse.Namespace) -> int:
    from jisu.exporter.jobs.stages import Stages
    from jisu.exporter.pipeline import export_request

    stages = Stages(verbose=not arguments.quiet)
    request = _request(arguments, stages)
    if arguments.dry_run:
        return _dry_run(request, as_json=arguments.json)
    if arguments.report is not None:
        check_place(arguments.report, option="--report")
    try:
        with ending_cleanly():
            artifact = export_request(request)
    except GateRejectedError as error:
        _write_report(arguments, error.gate)
        if arguments.json:
            _print_json(_outcome(arguments, error.gate or {}, stages) | {"artifact": None})
        raise
    _write_report(arguments, artifact.manifest.gate)
    if arguments.json:
        facts = {"artifact": str(artifact.folder), "precision": artifact.manifest.precision, "size": artifact.size}
        _print_json(_outcome(arguments, artifact.manifest.gate, stages) | facts)
    if not arguments.quiet:
        checks = artifact.manifest.gate["checks"]
        sys.stderr.write(f"{stages.table().splitlines()[-1]}\n")
        spells = artifact.manifest.model_kind == SPEECH and not artifact.manifest.signature.encoded
        if TOKENIZER not in artifact.manifest.files and not spells:  # labels of frames are letters
            sys.stderr.write("The checkpoint has no tokenizer: the artifact takes token ids only.\n")
        if (gains := describe_half(artifact.manifest.target, artifact.manifest.precision)) is not None:
            sys.stderr.write(f"{gains}\n")
        if not arguments.no_advice:
            _advise(artifact, request.max_memory)
        for note in artifact.manifest.gate.get("notes", []):
            sys.stderr.write(f"{note}\n")
        if (worst := describe_worst(artifact.manifest.gate)) is not None:
            sys.stderr.write(f"Quality: {worst}.\n")
        size = size_in_words(artifact.size)
        done = f"{artifact.folder}: {size}, accepted after {len(checks)} checks against the source\n"
        (sys.stderr if arguments.json else sys.stdout).write(done)
    return 0
