"""Checkpoint -> verified artifact, step by step: load, trace, optimize, write, prove, publish.

Nothing appears under the requested name before the gate has accepted it.
"""

from __future__ import annotations

import contextlib
import json
import re
import shutil
from collections.abc import Iterator, Sequence
from dataclasses import asdict, replace
from importlib import metadata
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.artifact import MANIFEST, TIMINGS, Artifact, Manifest, record_files
from exporter.calibration_data import read_calibration_data
from exporter.errors import GateRejectedError, InputError, JisuError
from exporter.evaluation_text import EvaluationText, read_evaluation_text
from exporter.plan import QuantizationPlan, matrices_of, plan_quantization
from exporter.precision import Precision, precision_named, with_limits
from exporter.quantization import QuantizedWeights, quantize_source
from exporter.recipes import StepRecord, recipe_for, run_recipe
from exporter.stages import Stages
from exporter.staging import check_place, publish, remove_stale, staging_folder

if TYPE_CHECKING:
    import onnx_ir as ir

    from exporter.gate import Budget, GateResult
    from exporter.sources.source import Source

# Written instead of the manifest when the gate says no: a folder with it is evidence, never an artifact.
REJECTED = "rejected.json"
REJECTED_SUFFIX = ".rejected"
_VERSIONED = ("jisu", "torch", "transformers", "onnx", "onnx-ir", "onnxscript", "onnxruntime", "onnxruntime-gpu")
# Tokenizer, manifest and a graph without its weights; small beside any model.
_SIDE_FILES = 64 << 20
# How Rust spells an error of the operating system.
_OS_ERROR = re.compile(r"\(os error \d+\)|No space left on device|File too large|Disk quota exceeded")


def export(
    checkpoint: str | Path,
    out: str | Path,
    *,
    target: str = "ort-cpu",
    precision: str = "fp32",
    calibration: str | Path | None = None,
    calibration_field: str = "text",
    evaluation: str | Path | None = None,
    keep: Sequence[str] = (),
    block_size: int | None = None,
    symmetric: bool | None = None,
    max_kl: float | None = None,
    min_top1: float | None = None,
    max_perplexity_ratio: float | None = None,
    revision: str | None = None,
    allow_pickle: bool = False,
    stages: Stages | None = None,
) -> Artifact:
    """Export a checkpoint and publish it when it is proved to be the same model.

    Args:
        checkpoint: a Hugging Face folder, a GGUF file, or a hub id such as ``org/name``.
        out: the artifact's folder, which must not exist yet.
        target: what the graph is lowered for, one of the targets of `exporter.recipes.RECIPES`.
        precision: one of `exporter.precision.PRECISIONS`.
        calibration: text for the precisions that are calibrated: plain text, JSONL, CSV or a dataset's folder; the
            first half of CPython's own prose when None.
        calibration_field: the column or key that holds the text of a CSV, JSONL or dataset.
        evaluation: text that the quality figures are measured on; the second half of CPython's own prose when None.
        keep: patterns of module paths whose weights stay float32, such as ``*.down_proj``.
        block_size: input features that share a scale; the precision's own when None.
        symmetric: whether zero points are the middle of the codes; the precision's own choice when None.
        max_kl: most mean KL divergence from the source on held-out text, in nats; a default per precision when None.
        min_top1: least share of tokens on which the most likely next token agrees, 0..1.
        max_perplexity_ratio: most perplexity over the source's.
        revision: branch, tag or commit of a hub id.
        allow_pickle: also read pickled weights, through torch's restricted unpickler.
        stages: collects the time and peak memory of each step; a silent one when None.

    Returns:
        The published artifact.

    Raises:
        InputError: bad options, checkpoint or place; nothing was written.
        GateRejectedError: the result is not the same model; it lies in ``<out>.rejected`` with the numbers.
    """
    out = Path(out)
    stages = stages or Stages()
    wanted = with_limits(
        precision_named(precision), max_kl=max_kl, min_top1=min_top1, max_perplexity_ratio=max_perplexity_ratio
    )
    steps = recipe_for(target, precision)
    check_place(out, checkpoint=checkpoint)
    for stale in remove_stale(out):
        stages.say(f"Removed {stale}, which an export that was killed left behind.")
    with stages.stage("load"):
        source = _load(checkpoint, revision=revision, allow_pickle=allow_pickle)
    _check_disk(out, source)
    plan = QuantizationPlan(formats={}, algorithm="none")
    if wanted.layers is not None or keep or block_size is not None or symmetric is not None:
        matrices = matrices_of(source.module)
        plan = plan_quantization(matrices, wanted, keep=keep, block_size=block_size, symmetric=symmetric)
    held_out = read_evaluation_text(evaluation)
    data = None
    if plan.calibrated:
        text = None if calibration is None else Path(calibration)
        data = read_calibration_data(source, text, field=calibration_field, evaluation=held_out.text)
    elif calibration is not None:
        raise _unused_calibration(wanted, calibration)
    with stages.stage("trace"):
        model = _trace(source)
    with stages.stage("quantize"):
        quantized = quantize_source(source, plan, data=data, progress=stages.advance)
    with stages.stage("optimize"):
        recipe = run_recipe(model, steps, max_positions=source.model.max_positions, quantized=quantized.by_name)
    with staging_folder(out) as staged:
        with stages.stage("write"):
            manifest = _write(staged, model, source, recipe, target=target, precision=precision)
            manifest = replace(manifest, quantization=_quantization_record(quantized, wanted, held_out))
            del model, quantized
        with stages.stage("prove"):
            staged_artifact = Artifact(folder=staged, manifest=manifest)
            result = prove(staged_artifact, source, budget=wanted.budget, evaluation=held_out.given, stages=stages)
        manifest = replace(manifest, gate=result.to_dict())
        with _refusing_to_write(out):
            _write_timings(staged, stages, recipe)
            if not result.accepted:
                raise _rejected(staged, out, manifest, result)
            (staged / MANIFEST).write_text(manifest.to_json(), encoding="utf-8")
            with stages.stage("publish"):
                publish(staged, out)
    return Artifact(folder=out, manifest=manifest)


def prove(
    artifact: Artifact,
    source: Source,
    *,
    budget: Budget,
    evaluation: str | None = None,
    stages: Stages | None = None,
) -> GateResult:
    """Run the gate on a written artifact, through the backend that users will run it on.

    Args:
        artifact: its files lie in its folder; whether a manifest does is of no matter.
        source: the model it has to match.
        budget: how far it may be from it.
        evaluation: held-out text for the quality figures; the default one when None.
        stages: told of the progress.
    """
    from exporter.gate import gate_prompts, run_gate
    from exporter.gate.facts import check_facts
    from exporter.gate.localize import locate_layer
    from exporter.gate.tokenizer import check_tokenizer
    from exporter.reference import TorchReference
    from exporter.tracing.layers import plan_layers

    # The arrow points from runtimes to exporter; proving what users will run is the one step that looks back, here.
    from runtimes.registry import open_backend

    facts = source.model
    reference = TorchReference(source.module)
    plan = plan_layers(source.module)
    tokenizer = source.tokenizer

    def locate(token_ids: Any) -> str | None:
        if plan is None:
            return None
        layers: Any = source.module.get_submodule(plan.path)
        signature = artifact.manifest.signature
        return locate_layer(
            artifact.graph, signature=signature, reference=reference, layers=layers, token_ids=token_ids
        )

    def progress(name: str, number: int, total: int) -> None:
        if stages is not None:
            stages.advance(number, total)

    backend = open_backend("ort-cpu", artifact)
    try:
        result = run_gate(
            backend,
            reference,
            prompts=gate_prompts(tokenizer, facts.vocab_size, facts.max_positions, evaluation=evaluation),
            budget=budget,
            tokenizer_check=None if tokenizer is None else lambda: check_tokenizer(tokenizer, artifact.folder),
            locate=locate,
            progress=progress,
        )
    finally:
        backend.close()
    return replace(result, checks=(*result.checks, check_facts(artifact.manifest.model, facts)))


def _load(checkpoint: str | Path, *, revision: str | None, allow_pickle: bool) -> Source:
    from exporter.sources import load_source

    return load_source(checkpoint, revision=revision, allow_pickle=allow_pickle)


def _trace(source: Source) -> ir.Model:
    from exporter.tracing.causal_lm import CausalLM
    from exporter.tracing.trace import trace

    module = CausalLM(source.module)  # type: ignore[arg-type]
    return trace(module, module.state_spec())


def _unused_calibration(precision: Precision, calibration: str | Path) -> InputError:
    return InputError(
        f"The precision {precision.name} uses no calibration text",
        received=f"--calibration {calibration}",
        allowed="a precision that is calibrated",
        fix="Leave it out, or use --precision int4.",
    )


def _quantization_record(
    quantized: QuantizedWeights, precision: Precision, evaluation: EvaluationText
) -> dict[str, Any]:
    if not quantized.record:
        return {}
    record = {**quantized.record, "budget": asdict(precision.budget)}
    return {**record, **({"evaluation": evaluation.to_record()} if evaluation.given else {})}


def _check_disk(out: Path, source: Source) -> None:
    """Raise InputError when the weights would not fit, before anything is written."""
    place = next(parent for parent in (out.parent.absolute(), *out.parent.absolute().parents) if parent.exists())
    free, needed = shutil.disk_usage(place).free, source.weight_bytes + _SIDE_FILES
    if free < needed:
        raise InputError(
            f"The disk under {place} is too small for the artifact",
            received=f"{free / 1e6:.0f} MB free",
            allowed=f"at least {needed / 1e6:.0f} MB",
            fix="Make room or choose another --out.",
        )


def _write(
    folder: Path, model: ir.Model, source: Source, recipe: list[StepRecord], *, target: str, precision: str
) -> Manifest:
    """Write graph, weights and tokenizer, and say in a manifest (without gate) what they are."""
    from exporter.genai_config import write_genai_config
    from exporter.graph_signature import signature_of
    from exporter.weights_file import save_graph

    signature = signature_of(model.graph)
    with _refusing_to_write(folder):
        save_graph(model, folder)
        source.save_tokenizer(folder)
        if target.startswith("ort-"):
            write_genai_config(folder, signature, source.model)
        files = record_files(folder)
    return Manifest(
        target=target,
        precision=precision,
        model=source.model,
        signature=signature,
        recipe=[record.to_dict() for record in recipe],
        gate={},
        source=source.provenance,
        versions=_versions(),
        files=files,
    )


@contextlib.contextmanager
def _refusing_to_write(place: Path) -> Iterator[None]:
    """Turn a full disk or a folder that takes no files into an InputError."""
    try:
        yield
    except JisuError:
        raise
    except Exception as error:
        # The tokenizers package reports a full disk by an Exception of no class of its own (0.22).
        if not isinstance(error, OSError) and not (type(error) is Exception and _OS_ERROR.search(str(error))):
            raise
        raise InputError(
            f"The artifact cannot be written to {place.parent}",
            received=getattr(error, "strerror", None) or error,
            allowed="a folder with room for it",
            fix="Make room or choose another --out.",
        ) from error


def _write_timings(folder: Path, stages: Stages, recipe: list[StepRecord]) -> None:
    passes = [{"pass": record.name, "seconds": record.seconds} for record in recipe]
    text = json.dumps({**stages.to_dict(), "passes": passes}, indent=2)
    (folder / TIMINGS).write_text(text + "\n", encoding="utf-8")


def _rejected(staged: Path, out: Path, manifest: Manifest, result: GateResult) -> GateRejectedError:
    """Move what was written aside, with the numbers, and make the error that says why."""
    (staged / REJECTED).write_text(manifest.to_json(), encoding="utf-8")
    place = out.with_name(out.name + REJECTED_SUFFIX)
    if (place / REJECTED).is_file():
        shutil.rmtree(place)  # an earlier rejection of ours
    if place.exists():
        place = staged.with_suffix(REJECTED_SUFFIX)
    staged.rename(place)
    return GateRejectedError(
        f"The exported model is not the model it was made from. {result.summary}",
        fix=f"Nothing was published to {out}; the rejected files and all numbers ({REJECTED}) are in {place}.",
    )


def _versions() -> dict[str, str]:
    """Versions of the packages that had a part in the artifact, those that are installed."""
    found = {}
    for name in _VERSIONED:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return found
