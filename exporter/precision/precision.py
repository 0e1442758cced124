"""What each precision is: number formats of the weights, the algorithm that rounds them, and the gate's default budget.

Formats are chosen by measurement, see `benchmarks/studies/measure_weight_algorithms.py`; a manifest records what was
used.
"""

from __future__ import annotations

import difflib
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Literal

from jisu.exporter.contract.errors import InputError
from jisu.exporter.precision.budget import FP32_BUDGET, Budget, quality_budget

if TYPE_CHECKING:
    from jisu.calibration.weights.formats import BlockFormat

Algorithm = Literal["none", "rtn", "balanced", "gptq", "smoothquant", "grid"]
# In numpy's spelling, like the dtypes of a signature.
FLOAT = "float32"
HalfType = Literal["float16", "bfloat16"]
# Largest number of each; the smallest that rounds to infinity lies half a unit above.
LARGEST: dict[HalfType, float] = {"float16": 65504.0, "bfloat16": 3.3895313892515355e38}

# What int8 matmuls are right on: ``any`` CPU, or those that add products in 32 bits (VNNI, AMX, Arm; GPUs too), which
# lets weights use all codes: see `calibration.w8a8.pair_sums`.
Kernels = Literal["any", "vnni"]


ROW = 0
# Bits that a file can hold of each code and that no kernel of ONNX Runtime takes; they multiply as 8.
STORED_BITS = (5, 6, 7)
# How many such codes a file may have: opening it puts them together in a file for the while.
MOST_STORED_CODES = 1 << 31
# Of a model that is rounded to them without text: the most weights.
MOST_WITHOUT_TEXT = 1 << 30


def kernel_bits(bits: int) -> int:
    """Bits of a code as it is multiplied with."""
    return 8 if bits in STORED_BITS else bits


@dataclass(frozen=True, kw_only=True)
class WeightFormat:
    """Integers in blocks along the input features; see `calibration.weights.formats.BlockFormat`.

    ``block_size`` `ROW` means one scale for each output row.
    """

    bits: int
    block_size: int
    symmetric: bool

    def to_block_format(self) -> BlockFormat:
        from jisu.calibration.weights.formats import BlockFormat

        # Which blocks may be cut short is decided where formats are chosen, by the target.
        return BlockFormat(bits=self.bits, block_size=self.block_size, symmetric=self.symmetric, short_last_block=True)


@dataclass(frozen=True, kw_only=True)
class Int8MatmulFormat:
    """Weights of 8 bits with a scale per output row, times inputs of 8 bits; see `calibration.w8a8.matmul`.

    ``static``: the scale of an input is fixed by calibration; otherwise it is found at run time, one for each token.
    ``kernels``: on which the int8 matmuls are right; `Kernels`.
    """

    static: bool
    kernels: Kernels = "any"


@dataclass(frozen=True, kw_only=True)
class RowFormat:
    """Weights of recurrent layers: integers with one scale for every output row; products are computed in float32."""

    bits: int = 8


@dataclass(frozen=True, kw_only=True)
class GridFormat:
    """The grid in blocks that the weights of a checkpoint lie on already; see `calibration.weights.grid`.

    ``sums``: the grids do not go through zero, and each block keeps how far they are from it.
    """

    bits: int
    block_size: int
    sums: bool


Format = WeightFormat | Int8MatmulFormat | RowFormat | GridFormat


@dataclass(frozen=True, kw_only=True)
class Precision:
    """One row of `PRECISIONS`.

    Attributes:
        layers: format of the linear layers of the decoder; None for float32.
        embedding: format of the embedding and the output projection, one weight when they are tied.
        algorithm: how the layers are rounded; the embedding is always rounded to nearest.
        budget: what the gate allows when the user says nothing.
        longest: format of the decoder's layers with the most input features, where these differ; None: like the others.
        outer: how many of every three layers between the first and the last eighth of the stack have the format of
            ``longest``; those in the two eighths have it, too: where nothing is known of inputs, these are what a few
            bits more buy most for. What is calibrated in few bits spends the same bytes by what it measures, and
            those of two of three where it has the bits of ``between`` to choose.
        between: what calibration may choose for a layer besides its own format and that of ``longest``, from few bits
            to many; only where a file can hold codes of so many bits. The last is every layer's without calibration.
        narrow_embedding: what calibration may choose for the embedding instead of its own; likewise. None: nothing.
        smallest: format of layers with at most an eighth of the largest one's weights, where a few bytes more buy much:
            keys and values that several query heads share; None: like the others.
        recurrent: format of recurrent layers; None for float32.
        half: floating-point format of two bytes that weights are stored in, and computed in where a target can; None
            for float32. Whatever else the fields say, a half precision has no integers.
    """

    name: str
    layers: Format | None
    embedding: WeightFormat | None
    algorithm: Algorithm
    budget: Budget
    longest: WeightFormat | None = None
    outer: int = 3
    between: tuple[WeightFormat, ...] = ()
    narrow_embedding: WeightFormat | None = None
    smallest: WeightFormat | None = None
    recurrent: RowFormat | None = field(default_factory=RowFormat)
    half: HalfType | None = None


MIXED = "mixed"
# The integers of a GGUF file, and of a quantized folder, as they are.
KEPT_GGUF, KEPT_FOLDER = "gguf", "kept"
KEPT = (KEPT_GGUF, KEPT_FOLDER)
PRECISIONS = {
    "fp32": Precision(name="fp32", layers=None, embedding=None, algorithm="none", budget=FP32_BUDGET),
    "fp16": Precision(
        name="fp16",
        layers=None,
        embedding=None,
        algorithm="none",
        budget=quality_budget(max_mean_kl=0.001, max_confident_changes=0.005, min_cosine=0.9999, min_recall=0.99),
        half="float16",
    ),
    "bf16": Precision(
        name="bf16",
        layers=None,
        embedding=None,
        algorithm="none",
        budget=quality_budget(max_mean_kl=0.01, max_confident_changes=0.01, min_cosine=0.999, min_recall=0.95),
        half="bfloat16",
    ),
    "int8": Precision(
        name="int8",
        layers=WeightFormat(bits=8, block_size=32, symmetric=True),
        embedding=WeightFormat(bits=8, block_size=32, symmetric=True),
        # Measured on SmolLM2-135M: 1.7 MB less for 0.0007 nats more; longer blocks elsewhere cost several times that.
        longest=WeightFormat(bits=8, block_size=64, symmetric=True),
        algorithm="balanced",
        # SmolLM2-135M reaches 0.0064, and 0.013 without balanced channels, as models from text to text are.
        budget=quality_budget(max_mean_kl=0.015, max_confident_changes=0.01, min_cosine=0.995, min_recall=0.95),
    ),
    "int4": Precision(
        name="int4",
        layers=WeightFormat(bits=4, block_size=32, symmetric=False),
        embedding=WeightFormat(bits=8, block_size=64, symmetric=True),
        # Measured on SmolLM2-135M, rounded to nearest: of 0.40 nats these give 0.24, and hold 31 % of the weights.
        longest=WeightFormat(bits=8, block_size=64, symmetric=True),
        # Rounded with the same statistics 6 bits lose a ninth of what 4 bits lose; docs/precision.md has the figures.
        between=(
            WeightFormat(bits=5, block_size=64, symmetric=True),
            WeightFormat(bits=6, block_size=64, symmetric=True),
        ),
        # Zero points take a third of what it loses, for a fiftieth of its bytes.
        narrow_embedding=WeightFormat(bits=6, block_size=64, symmetric=False),
        smallest=WeightFormat(bits=8, block_size=32, symmetric=True),
        algorithm="gptq",
        budget=quality_budget(max_mean_kl=0.15, max_confident_changes=0.05, min_cosine=0.9, min_recall=0.8),
    ),
    **{
        name: Precision(
            name=name,
            layers=Int8MatmulFormat(static=static),
            embedding=WeightFormat(bits=8, block_size=32, symmetric=True),
            algorithm="smoothquant",
            budget=quality_budget(max_mean_kl=0.08, max_confident_changes=0.03, min_cosine=0.95, min_recall=0.85),
        )
        for name, static in (("w8a8", True), ("w8a8-dynamic", False))
    },
    # Each layer in a format of its own, chosen by measurement: see `exporter.quantization.mixed_precision`.
    MIXED: Precision(
        name=MIXED,
        layers=None,
        embedding=None,
        algorithm="gptq",
        budget=quality_budget(max_mean_kl=0.15, max_confident_changes=0.05, min_cosine=0.9, min_recall=0.8),
    ),
    # See `exporter.quantization.keep` and `exporter.quantization.keep_integers`.
    **{
        name: Precision(
            name=name,
            layers=None,
            embedding=None,
            algorithm="none",
            budget=quality_budget(max_mean_kl=0.02, max_confident_changes=0.01),
        )
        for name in KEPT
    },
}


# Limits of a budget -> the options that set them.
LIMIT_OPTIONS = {
    "max_mean_kl": "--max-kl",
    "max_average_kl": "--max-kl-mean",
    "min_top1": "--min-top1",
    "max_perplexity_ratio": "--max-ppl-ratio",
    "max_confident_changes": "--max-confident-changes",
    "min_cosine": "--min-cosine",
    "min_recall": "--min-recall",
}
_MOST = {"min_top1": 1.0, "max_confident_changes": 1.0, "min_cosine": 1.0, "min_recall": 1.0}
_LEAST = {"min_cosine": -1.0}


def with_limits(
    precision: Precision,
    *,
    max_kl: float | None = None,
    max_kl_mean: float | None = None,
    min_top1: float | None = None,
    max_perplexity_ratio: float | None = None,
    max_confident_changes: float | None = None,
    min_cosine: float | None = None,
    min_recall: float | None = None,
) -> Precision:
    """The precision with the user's budget in place of its own, limit by limit.

    Raises:
        InputError: a limit out of range, or any for fp32, which has to reproduce logits and tokens instead.
    """
    requested = {
        "max_mean_kl": max_kl,
        "max_average_kl": max_kl_mean,
        "min_top1": min_top1,
        "max_perplexity_ratio": max_perplexity_ratio,
        "max_confident_changes": max_confident_changes,
        "min_cosine": min_cosine,
        "min_recall": min_recall,
    }
    limits = {name: value for name, value in requested.items() if value is not None}
    if not limits:
        return precision
    own = precision.budget
    if own.max_logit_error is not None or own.max_mean_kl is None:
        raise InputError(
            f"The precision {precision.name} has no quality budget: it has to reproduce the source",
            received=", ".join(f"{name}={value}" for name, value in limits.items()),
            allowed="limits for a reduced precision",
            fix="Leave the limits out, or use --precision int8 or int4.",
        )
    # Written so that NaN is out of range.
    wrong = [
        name for name, value in limits.items() if not _LEAST.get(name, 0.0) <= value <= _MOST.get(name, float("inf"))
    ]
    if wrong:
        raise InputError(
            "A limit of the quality budget is out of range",
            received=", ".join(f"{LIMIT_OPTIONS[name]} {limits[name]:g}" for name in wrong),
            allowed="--max-kl, --max-kl-mean and --max-ppl-ratio of 0 or more, --min-top1, --max-confident-changes and "
            "--min-recall from 0 to 1, --min-cosine from -1 to 1",
            fix="Correct it, or leave it out.",
        )
    recorded = {name: getattr(own, name) for name in requested}
    budget = quality_budget(**{**recorded, **limits})
    return replace(precision, budget=budget)


def for_target(precision: Precision, target: str) -> Precision:
    """The precision as a target can hold it, or as its kernels are fast with.

    TensorRT takes integers without zero points, read by nothing but a product: no gathered embedding, no recurrent
    layers. A tied output projection stays float with its embedding. Of 8 bits it has one scale a row: blocks
    would cost a plan 0.3 MB of kernels for each product. ONNX Runtime's products on GPUs are fast with symmetric blocks
    of 32.
    """
    if target not in ("tensorrt", "ort-cuda") or precision.half is not None:
        return precision
    layers, longest, smallest = precision.layers, precision.longest, precision.smallest
    if isinstance(layers, WeightFormat):
        block_size = layers.block_size if target == "tensorrt" else 32
        block_size = ROW if target == "tensorrt" and layers.bits == 8 else block_size
        layers, longest, smallest = replace(layers, symmetric=True, block_size=block_size), None, None
    # Their products have inputs of half precision, so that there is nothing to balance.
    algorithm: Algorithm = "rtn" if precision.algorithm == "balanced" else precision.algorithm
    chosen = replace(precision, layers=layers, longest=longest, smallest=smallest, algorithm=algorithm, recurrent=None)
    return replace(chosen, embedding=None) if target == "tensorrt" else chosen


def without_text(precision: Precision) -> Precision:
    """The precision for weights that are rounded without calibration text.

    Measured on SmolLM2-135M, rounded anew to nearest, on prompts, prose and code: of 0.38 nats in the worst the longest
    layers take 0.10 with 8 bits in half of them, and 0.12 in all.
    """
    fewer = isinstance(precision.layers, WeightFormat) and precision.layers.bits < 8 and precision.longest is not None
    return replace(precision, outer=1) if fewer else precision


def assuming_vnni(precision: Precision) -> Precision:
    """The precision with weights for CPUs whose int8 matmuls add in 32 bits; raises InputError for one without such."""
    if not isinstance(precision.layers, Int8MatmulFormat):
        raise InputError(
            f"The precision {precision.name} computes the same with and without VNNI",
            received="--assume-vnni",
            allowed=f"it with --precision {' or '.join(_multiplying_integers())}",
            fix="Leave it out.",
        )
    return replace(precision, layers=replace(precision.layers, kernels="vnni"))


def kernels_of(precision: Precision) -> Kernels:
    """What an artifact of this precision is right on."""
    return precision.layers.kernels if isinstance(precision.layers, Int8MatmulFormat) else "any"


def _multiplying_integers() -> list[str]:
    return [name for name, other in PRECISIONS.items() if isinstance(other.layers, Int8MatmulFormat)]


def precision_named(name: str) -> Precision:
    """Look a precision up; raises InputError that names the nearest known one."""
    if name in PRECISIONS:
        return PRECISIONS[name]
    near = difflib.get_close_matches(name, PRECISIONS, n=1)
    raise InputError(
        "There is no such precision",
        received=name,
        allowed=", ".join(PRECISIONS),
        fix=f"Did you mean {near[0]}?" if near else "Choose one of these.",
    )
