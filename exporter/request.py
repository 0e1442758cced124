"""What a user asks of an export, checked as far as that is possible without reading the checkpoint."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from dataclasses import KW_ONLY, dataclass, field
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Any, ParamSpec, Protocol, TypeVar, cast, overload

from jisu.exporter.contract.artifact import MAX_SHARD_BYTES
from jisu.exporter.contract.errors import InputError
from jisu.exporter.passes.recipes import recipe_for
from jisu.exporter.precision.precision import (
    KEPT_FOLDER,
    KEPT_GGUF,
    MIXED,
    Precision,
    assuming_vnni,
    for_target,
    precision_named,
    with_limits,
)
from jisu.exporter.quantization.calibration_texts import calibration_texts
from jisu.exporter.quantization.mixed_precision import Goal
from jisu.exporter.quantization.options import QuantizationOptions
from jisu.exporter.sources.reranking.options import RerankOptions, rerank_options

if TYPE_CHECKING:
    from torch import nn

    from jisu.exporter.jobs.stages import Stages

FP32 = "fp32"
_Arguments = ParamSpec("_Arguments")
_Request = TypeVar("_Request", contravariant=True)
_Result = TypeVar("_Result", covariant=True)


@dataclass(frozen=True)
class ExportRequest:
    """The arguments of `exporter.pipeline.export`, and what follows from them.

    Args:
        checkpoint: a Hugging Face folder, a GGUF file, a hub id such as ``org/name``, a factory such as
            ``package.module:build`` that returns an `nn.Module`, or the module itself.
        out: the artifact's folder, which must not exist yet, but see ``overwrite``.
        overwrite: replace an earlier artifact at ``out`` when the new one is accepted; other folders are refused.
        tokenizer: of a module or a factory: ``tokenizer.json``, its folder, a `tokenizers.Tokenizer` or a fast
            tokenizer of transformers.
        target: what the graph is lowered for, one of the targets of `exporter.passes.recipes.RECIPES`.
        precision: one of `exporter.precision.precision.PRECISIONS`; when None, fp32, or ``mixed`` where ``max_kl`` or
            ``target_size`` is given.
        target_size: most bytes of the whole artifact; the mixed precision that is closest to the source is chosen.
        max_memory: most bytes of resident memory. An export that is estimated to need more is refused before it begins,
            and one that does is ended; no limit when None. The gate runs a larger artifact in pieces.
        max_shard_size: most bytes of a file of weights; further ones are numbered. A weight that is larger by itself
            has a file of its own.
        keep_quantization: take over the integers of a GGUF file or of a quantized folder instead of quantizing anew.
        calibration: text for the precisions that are calibrated: plain text, JSONL, CSV or a dataset's folder, or
            several; the word ``mixture`` among them, and None, is the built-in mixture; ``none`` is no text at all.
        calibration_field: the column or key that holds the text of a CSV, JSONL or dataset.
        evaluation: text that the quality figures are measured on; the built-in domains when None.
        keep: patterns of module paths whose weights stay float32, such as ``*.down_proj``.
        block_size: input features that share a scale; the precision's own when None.
        symmetric: whether zero points are the middle of the codes; the precision's own choice when None.
        sensitivity: file of the measurements that mixed precision is chosen by, kept for the next export.
        max_kl: largest mean KL divergence from the source in any domain of held-out text, in nats; a default per
            precision when None. Without a precision, the smallest mixed precision within it is chosen.
        max_kl_mean: the same as the mean over all domains; no limit when None.
        min_top1: smallest share of tokens in any domain on which the most likely next token agrees, 0..1.
        max_perplexity_ratio: largest perplexity as a multiple of the source's, in any domain.
        max_confident_changes: largest share, in any domain, of the tokens that the source is confident of and the
            result chooses otherwise, 0..1.
        revision: branch, tag or commit of a hub id.
        allow_pickle: also read pickled weights, through torch's restricted unpickler.
        ignore_weights: patterns of stored tensors to leave out, such as ``*.mtp.*``: those that it holds and
            its model has no place for, which is refused without it.
        adapters: folders of LoRA adapters (PEFT), merged into the weights one after the other.
        pooling: makes an embedding model of a plain encoder: ``mean``, ``cls``, ``lasttoken`` ...
        rerank_prompt: makes a reranker of a decoder: ``judge``, ``relevance``, ``passage``, or a text file with
            ``{query}`` and ``{document}`` in it, and ``{instruction}`` where the model takes one.
        yes_token: the token whose logit says that a document answers; that of the named prompt when None.
        no_token: the token whose logit is taken off, likewise; without one the logit of the other alone is the score.
        min_cosine: of an embedding model: smallest cosine of a text's vector with the source's, -1..1.
        min_recall: of an embedding model: smallest share of the nearest texts of a corpus that are the source's, 0..1.
        assume_vnni: of w8a8, let weights use codes with which the int8 matmuls of x86 CPUs without VNNI overflow; the
            artifact is refused there.
        device: what calculates the source's layers, a torch device such as ``cuda``: for calibration, for what it
            writes itself, and for the truth of the gate. Weights stay in the CPU's memory but for the layer at work.
        ray: address of a Ray cluster for what is independent, see `exporter.jobs.ray_tasks.cluster`: rounding without
            text, sensitivities, and the source's answers; None does it here.
        stages: collects the time and peak memory of each step; a silent one when None.

    Attributes:
        folder: ``out`` as a path.
        precision_spec: the precision with the user's limits.
        options: what concerns the weights.
        reranking: the prompt and its tokens; None without a prompt.

    Raises:
        InputError: options that are unknown, or do not go together.
    """

    checkpoint: str | Path | nn.Module
    out: str | Path
    _: KW_ONLY
    overwrite: bool = False
    tokenizer: Any = None
    target: str = "ort-cpu"
    precision: str | None = None
    target_size: int | None = None
    max_memory: int | None = None
    max_shard_size: int = MAX_SHARD_BYTES
    keep_quantization: bool = False
    calibration: str | Path | Sequence[str | Path] | None = None
    calibration_field: str = "text"
    evaluation: str | Path | None = None
    keep: Sequence[str] = ()
    block_size: int | None = None
    symmetric: bool | None = None
    sensitivity: str | Path | None = None
    max_kl: float | None = None
    max_kl_mean: float | None = None
    min_top1: float | None = None
    max_perplexity_ratio: float | None = None
    max_confident_changes: float | None = None
    revision: str | None = None
    allow_pickle: bool = False
    ignore_weights: Sequence[str] = ()
    adapters: Sequence[str | Path] = ()
    pooling: str | None = None
    rerank_prompt: str | Path | None = None
    yes_token: str | None = None
    no_token: str | None = None
    min_cosine: float | None = None
    min_recall: float | None = None
    assume_vnni: bool = False
    device: str = "cpu"
    ray: str | None = None
    stages: Stages | None = None
    folder: Path = field(init=False)
    precision_spec: Precision = field(init=False)
    options: QuantizationOptions = field(init=False)
    reranking: RerankOptions | None = field(init=False)

    def __post_init__(self) -> None:
        goal = Goal(max_kl=self.max_kl, max_bytes=self.target_size)
        name = self._precision_name(goal)
        spec = with_limits(
            for_target(precision_named(name), self.target),
            max_kl=self.max_kl,
            max_kl_mean=self.max_kl_mean,
            min_top1=self.min_top1,
            max_perplexity_ratio=self.max_perplexity_ratio,
            max_confident_changes=self.max_confident_changes,
            min_cosine=self.min_cosine,
            min_recall=self.min_recall,
        )
        if self.assume_vnni:
            spec = assuming_vnni(spec)
        if self.target == "tensorrt" and self.symmetric is False:
            raise InputError(
                "TensorRT takes no weights with zero points",
                received="--asymmetric --target tensorrt",
                allowed="symmetric weights",
                fix="Leave --asymmetric out.",
            )
        options = QuantizationOptions(
            precision=spec,
            goal=goal if name == MIXED else Goal(max_bytes=self.target_size),
            keep=tuple(self.keep),
            block_size=self.block_size,
            symmetric=self.symmetric,
            calibration=calibration_texts(self.calibration, field=self.calibration_field, optional=True)
            if self.calibration
            else None,
            sensitivity=None if self.sensitivity is None else Path(self.sensitivity),
            checkpoint=self.checkpoint if isinstance(self.checkpoint, (str, Path)) else "",
        )
        recipe_for(self.target, name)  # refuses what there is none for
        made = {
            "folder": Path(self.out),
            "precision_spec": spec,
            "options": options,
            "reranking": rerank_options(self.rerank_prompt, yes_token=self.yes_token, no_token=self.no_token),
        }
        for key, value in made.items():
            object.__setattr__(self, key, value)

    def _precision_name(self, goal: Goal) -> str:
        if not self.keep_quantization:
            return self.precision or (FP32 if goal == Goal() else MIXED)
        if self.adapters:
            raise InputError(
                "A checkpoint's own quantization cannot be kept when an adapter changes its weights",
                received="--keep-quantization --adapter",
                allowed="one of the two",
                fix="Leave --keep-quantization out: the adapter is merged into the dequantized weights.",
            )
        name = KEPT_GGUF if str(self.checkpoint).lower().endswith(".gguf") else KEPT_FOLDER
        if self.precision not in (None, name):
            raise InputError(
                "A file's quantization cannot be both kept and changed",
                received=f"--keep-quantization --precision {self.precision}",
                allowed="one of the two",
                fix="Leave one of them out.",
            )
        return name


class TakesRequest(Protocol[_Arguments, _Request, _Result]):
    """A function of a request, called with one or with a request's own arguments."""

    @overload
    def __call__(self, request: _Request, /) -> _Result: ...

    @overload
    def __call__(self, *arguments: _Arguments.args, **options: _Arguments.kwargs) -> _Result: ...


def with_arguments_of(
    request: Callable[_Arguments, _Request],
) -> Callable[[Callable[[_Request], _Result]], TakesRequest[_Arguments, _Request, _Result]]:
    """Let a function of a request be called with the request's own arguments, too, which are listed and typed once."""

    def decorate(function: Callable[[_Request], _Result]) -> TakesRequest[_Arguments, _Request, _Result]:
        signature = inspect.signature(request).replace(return_annotation=inspect.signature(function).return_annotation)

        @wraps(function)
        def call(*arguments: Any, **options: Any) -> _Result:
            if len(arguments) == 1 and not options and isinstance(arguments[0], cast("type", request)):
                return function(cast("_Request", arguments[0]))
            signature.bind(*arguments, **options)  # says what is missing or unknown without a word of the request
            return function(request(*arguments, **options))

        call.__signature__ = signature  # type: ignore[attr-defined]  # for help() and notebooks
        return cast("TakesRequest[_Arguments, _Request, _Result]", call)

    return decorate
