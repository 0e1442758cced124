"""What a user asks of the weights."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from jisu.exporter.contract.errors import InputError
from jisu.exporter.precision.precision import KEPT_GGUF, MIXED, Precision
from jisu.exporter.quantization.calibration_texts import CalibrationTexts
from jisu.exporter.quantization.mixed_precision import Goal


@dataclass(frozen=True, kw_only=True)
class QuantizationOptions:
    """The user's options, as `exporter.pipeline.export` documents them; ``calibration`` is None when not asked for.

    Raises:
        InputError: options that do not go together.
    """

    precision: Precision
    goal: Goal = field(default_factory=Goal)
    keep: tuple[str, ...] = ()
    block_size: int | None = None
    symmetric: bool | None = None
    calibration: CalibrationTexts | None = None
    sensitivity: Path | None = None
    checkpoint: str | Path = ""

    def __post_init__(self) -> None:
        mixed = self.precision.name == MIXED
        if mixed and self.goal == Goal():
            raise InputError(
                "Mixed precision needs a goal",
                received="neither --max-kl nor --target-size",
                allowed="--max-kl, --target-size, or both",
                fix="Add --max-kl 0.05, or choose --precision int8 or int4.",
            )
        if self.precision.name == KEPT_GGUF and Path(self.checkpoint).suffix.lower() != ".gguf":
            raise InputError(
                "Only a GGUF file has GGUF blocks that could be kept",
                received=self.checkpoint,
                allowed="a .gguf file; of a quantized folder, --keep-quantization keeps the integers",
                fix="Use --keep-quantization, or choose --precision int8 or int4.",
            )
        size = self.goal.max_bytes
        if size is not None and size <= 0:
            raise InputError(
                "The target size is out of range", received=size, allowed="above 0", fix="Use 90MB or the like."
            )
        options_set = {
            "--target-size": not mixed and size is not None,
            "--sensitivity": not mixed and self.sensitivity is not None,
            "--block-size": mixed and self.block_size is not None,
            "--symmetric or --asymmetric": mixed and self.symmetric is not None,
        }
        unused = [name for name, is_unused in options_set.items() if is_unused]
        if unused:
            raise InputError(
                f"The precision {self.precision.name} does not use these options",
                received=", ".join(unused),
                allowed="--target-size and --sensitivity with mixed precision, block size and symmetry with others",
                fix="Leave them out.",
            )
