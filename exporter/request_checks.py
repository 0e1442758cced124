"""What a user may ask of an export, given what the model is for; said before anything long begins."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.contract.artifact import AUDIO_TEXT, EMBEDDING, IMAGE_TEXT, ONE_PASS_KINDS, SPEECH, TEXT_TO_TEXT
from jisu.exporter.contract.errors import InputError
from jisu.exporter.precision.precision import MIXED

if TYPE_CHECKING:
    from jisu.exporter.request import ExportRequest
    from jisu.exporter.sources.source import Source

# What runs the graphs that read images or recordings.
FEATURE_TARGETS = ("ort-cpu", "portable")
# Of a model with an encoder, for every target: weights alone, each rounded by itself. All others run text through
# decoder layers or look at their activations.
TEXT_TO_TEXT_PRECISIONS = ("fp32", "fp16", "bf16", "int8")


SPEECH_TARGETS = ("ort-cpu", "portable")


def check_model_kind(request: ExportRequest, source: Source) -> None:
    """Raise InputError for options that a model of this kind cannot take."""
    _check_vector_limits(request, source)
    if source.model_kind in ONE_PASS_KINDS:
        _check_one_pass(request, source)
    elif source.model_kind == TEXT_TO_TEXT:
        _check_text_to_text(request, source)
    elif source.model_kind in (IMAGE_TEXT, AUDIO_TEXT):
        _check_beside_texts(request, source)
    elif source.model_kind == SPEECH:
        _check_speech(request, source)


def refuse_activations(source: Source, *, what: str) -> None:
    """Raise InputError for a job that looks at a decoder's activations, where an encoder's output would be missing."""
    if source.model_kind in (TEXT_TO_TEXT, SPEECH):
        hears = source.model_kind == SPEECH
        raise InputError(
            f"{source.model.architecture} has an encoder, and there is no {what} of it",
            received="a model that writes down speech" if hears else "a model that turns one text into another",
            allowed="a model that continues a text",
            fix="Export it with --precision int8, which needs no calibration.",
        )


def _check_vector_limits(request: ExportRequest, source: Source) -> None:
    limits = {"--min-cosine": request.min_cosine, "--min-recall": request.min_recall}
    options = [name for name, value in limits.items() if value is not None]
    if options and source.model_kind != EMBEDDING:
        raise InputError(
            "This option needs an embedding model",
            received=f"{', '.join(options)} for {source.model.architecture}",
            allowed="it with a folder of sentence-transformers, or with --pooling",
            fix="Leave it out.",
        )


def _check_one_pass(request: ExportRequest, source: Source) -> None:
    embeds = source.model_kind == EMBEDDING
    unfit = {
        "mixed precision": request.precision_spec.name == MIXED,
        "--keep-quantization": embeds and request.keep_quantization,
        "--max-kl": embeds and request.max_kl is not None,
        "--min-top1": embeds and request.min_top1 is not None,
        "--max-ppl-ratio": request.max_perplexity_ratio is not None,
        "--max-kl-mean": request.max_kl_mean is not None,
        "--max-confident-changes": request.max_confident_changes is not None,
    }
    options = [name for name, is_given in unfit.items() if is_given]
    if options:
        raise InputError(
            "This option needs a model that generates text",
            received=", ".join(options),
            allowed="without such options: one --precision for all layers, with "
            + ("--min-cosine and --min-recall" if embeds else "--max-kl and --min-top1"),
            fix="Use --precision int8, or leave the option out.",
        )


def _check_speech(request: ExportRequest, source: Source) -> None:
    if request.target not in SPEECH_TARGETS:
        raise InputError(
            f"{source.model.architecture} writes down speech, which cannot be exported for {request.target} yet",
            received=f"--target {request.target}",
            allowed=" or ".join(f"--target {target}" for target in SPEECH_TARGETS),
            fix=f"Choose --target {SPEECH_TARGETS[0]}.",
        )
    _check_text_to_text(request, source)


def _check_text_to_text(request: ExportRequest, source: Source) -> None:
    precision = request.precision_spec
    if precision.name in TEXT_TO_TEXT_PRECISIONS:
        return
    raise InputError(
        f"{source.model.architecture} has an encoder, which cannot be exported in {precision.name} "
        f"for {request.target}",
        received=f"--target {request.target} --precision {precision.name}",
        allowed=", ".join(TEXT_TO_TEXT_PRECISIONS),
        fix="Choose one of these; int8 is the smallest.",
    )


def _check_beside_texts(request: ExportRequest, source: Source) -> None:
    if request.target in FEATURE_TARGETS:
        return
    what = "images" if source.model_kind == IMAGE_TEXT else "recordings"
    raise InputError(
        f"{source.model.architecture} reads {what}, which the target {request.target} does not yet",
        received=f"--target {request.target}",
        allowed=", ".join(FEATURE_TARGETS),
        fix=f"Choose --target {FEATURE_TARGETS[0]}.",
    )
