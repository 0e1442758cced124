"""What a user asks of an export, checked as far as that is possible without reading the checkpoint."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from exporter.contract.errors import InputError
from exporter.passes.recipes import recipe_for
from exporter.passes.steps import Step
from exporter.precision.precision import (
    KEPT_FOLDER,
    KEPT_GGUF,
    MIXED,
    Precision,
    assuming_vnni,
    for_target,
    precision_named,
    with_limits,
)
from exporter.quantization.mixed_precision import Goal
from exporter.quantization.options import QuantizationOptions

if TYPE_CHECKING:
    from torch import nn

FP32 = "fp32"


@dataclass(frozen=True, kw_only=True)
class ExportRequest:
    """The arguments of `exporter.pipeline.export`, which explains them, and what follows from them.

    Attributes:
        wanted: the precision with the user's limits.
        options: what concerns the weights.
        steps: the recipe.

    Raises:
        InputError: options that are unknown, or do not go together.
    """

    checkpoint: str | Path | nn.Module
    out: Path
    tokenizer: Any = None
    target: str = "ort-cpu"
    precision: str | None = None
    target_size: int | None = None
    keep_quantization: bool = False
    calibration: Path | None = None
    calibration_field: str = "text"
    evaluation: Path | None = None
    keep: Sequence[str] = ()
    block_size: int | None = None
    symmetric: bool | None = None
    sensitivity: Path | None = None
    max_kl: float | None = None
    min_top1: float | None = None
    max_perplexity_ratio: float | None = None
    revision: str | None = None
    allow_pickle: bool = False
    ignore_weights: Sequence[str] = ()
    adapters: Sequence[str | Path] = ()
    assume_vnni: bool = False
    wanted: Precision = field(init=False)
    options: QuantizationOptions = field(init=False)
    steps: tuple[Step, ...] = field(init=False)

    def __post_init__(self) -> None:
        for name in ("out", "calibration", "evaluation", "sensitivity"):  # strings are welcome too
            if getattr(self, name) is not None:
                object.__setattr__(self, name, Path(getattr(self, name)))
        goal = Goal(max_kl=self.max_kl, max_bytes=self.target_size)
        name = self._precision_name(goal)
        wanted = with_limits(
            for_target(precision_named(name), self.target),
            max_kl=self.max_kl,
            min_top1=self.min_top1,
            max_perplexity_ratio=self.max_perplexity_ratio,
        )
        if self.assume_vnni:
            wanted = assuming_vnni(wanted)
        if self.target == "tensorrt" and self.symmetric is False:
            raise InputError(
                "TensorRT takes no weights with zero points",
                received="--asymmetric --target tensorrt",
                allowed="symmetric weights",
                fix="Leave --asymmetric out.",
            )
        options = QuantizationOptions(
            precision=wanted,
            goal=goal if name == MIXED else Goal(max_bytes=self.target_size),
            keep=tuple(self.keep),
            block_size=self.block_size,
            symmetric=self.symmetric,
            calibration=self.calibration,
            calibration_field=self.calibration_field,
            sensitivity=self.sensitivity,
            checkpoint=self.checkpoint if isinstance(self.checkpoint, (str, Path)) else "",
        )
        found = {"wanted": wanted, "options": options, "steps": recipe_for(self.target, name)}
        for key, value in found.items():
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
                "A file's own quantization cannot be kept and be changed",
                received=f"--keep-quantization --precision {self.precision}",
                allowed="one of the two",
                fix="Leave one of them out.",
            )
        return name
