"""Which weight of a source gets which number format: a precision, the user's options, and what the shapes allow.

A choice is made before anything is computed, and lists every weight that a precision speaks of, those that stay float32
included. Everything wrong with it is reported at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from difflib import get_close_matches
from fnmatch import fnmatchcase
from functools import partial
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.precision.precision import (
    MOST_STORED_CODES,
    MOST_WITHOUT_TEXT,
    ROW,
    Algorithm,
    Format,
    Int8MatmulFormat,
    Precision,
    WeightFormat,
)
from jisu.exporter.quantization.feature_weights import FEATURE_GRAPHS
from jisu.exporter.quantization.matrices import Matrix

BLOCK_SIZES = (16, 32, 64, 128, 256)
_SCALE_BYTES = 2  # of a block, as they mostly are
_OUTER_OF_STORED = 2
_SMALL = 8  # times the weights of a small layer are those of the largest


@dataclass(frozen=True, kw_only=True)
class FormatChoice:
    """Formats by module path; None keeps the weight in float32.

    Attributes:
        formats: of every matrix of the decoder layers, the embedding and the output projection.
        algorithm: how layers are rounded; 8-bit weights by themselves are always rounded to nearest.
        max_kl: what the model may lose by it, mean KL divergence in nats; None where nothing is chosen by that.
        spread: few, sometimes more, and many bits, between which calibration text may choose anew for each layer in as
            many bytes as all of them have here (`exporter.quantization.spread_bits`); None where formats are final.
        narrow_embedding: what embedding and output projection may have instead, so that layers get what they leave;
            None for nothing.
        notes: what was decided differently from the precision's default, in words, for the manifest.
    """

    formats: Mapping[str, Format | None]
    algorithm: Algorithm
    max_kl: float | None = None
    spread: tuple[WeightFormat, ...] | None = None
    narrow_embedding: WeightFormat | None = None
    notes: tuple[str, ...] = ()

    @property
    def balanced(self) -> bool:
        """Whether channels are balanced, for which a few windows of text are enough."""
        return self.algorithm == "balanced"

    @property
    def calibrated(self) -> bool:
        """Whether carrying it out takes all of the calibration text."""
        forms = self.formats.values()
        few_bits = any(isinstance(form, WeightFormat) and form.bits < 8 for form in forms)
        return (self.algorithm == "gptq" and few_bits) or any(isinstance(form, Int8MatmulFormat) for form in forms)

    def to_record(self) -> dict[str, Any]:
        """For the manifest: each format once, with the modules it is used for when there are several formats."""
        groups: dict[Format | None, list[str]] = {}
        for name, form in self.formats.items():
            groups.setdefault(form, []).append(name)
        formats = [
            {"format": None if form is None else asdict(form), "weights": len(names), "names": names}
            for form, names in groups.items()
        ]
        return {"algorithm": self.algorithm, "formats": formats, **({"notes": list(self.notes)} if self.notes else {})}


def choose_formats(
    matrices: Sequence[Matrix],
    precision: Precision,
    *,
    keep: Sequence[str] = (),
    block_size: int | None = None,
    symmetric: bool | None = None,
    short_blocks: bool = True,
    stored_bits: bool = False,
) -> FormatChoice:
    """Give every matrix the precision's format, with the user's changes.

    Args:
        matrices: see `matrices_of`.
        keep: patterns (``*``, ``?``, ``[...]``) of module paths that stay float32, such as ``*.down_proj``. The choice
            of a half precision, which has no integers, lists these alone.
        block_size: input features that share a scale, instead of the precision's own for layers and embeddings.
        symmetric: the zero point of every block is the middle of the codes, instead of the precision's own choice.
        short_blocks: see `takes_short_blocks`; without them a matrix whose features no block size divides stays
            float32, and the notes say so.
        stored_bits: whether files of the target can hold codes of bits that its kernels do not take.

    Raises:
        InputError: an option for a precision without integers, a pattern that matches nothing or everything, or a block
            size that does not divide the features of a layer.
    """
    own = (precision.layers, precision.embedding)
    if precision.half is not None:
        _refuse_options(precision, keep=(), block_size=block_size, symmetric=symmetric)
        return FormatChoice(formats=dict.fromkeys(sorted(kept_names(matrices, keep))), algorithm="none")
    if own == (None, None):
        _refuse_options(precision, keep=keep, block_size=block_size, symmetric=symmetric)
        return FormatChoice(formats={}, algorithm="none")
    kept = kept_names(matrices, keep)
    if isinstance(precision.layers, Int8MatmulFormat):
        _refuse_options(precision, block_size=block_size, symmetric=symmetric)
    formats: dict[str, Format | None] = {}
    notes, misfits = [], []
    unfitted: list[tuple[Matrix, int]] = []
    longest = _longest(matrices)
    changed = partial(_changed, block_size=block_size, symmetric=symmetric)
    spread = _spread(precision, changed, stored_bits=stored_bits)
    narrow = precision.narrow_embedding if spread is not None and stored_bits else None
    # About the bytes of llama.cpp's Q4_K_M, where they can be spent well.
    most = _OUTER_OF_STORED if len(spread or ()) > 2 else precision.outer
    outer = _outer(matrices, of_three=min(precision.outer, most))
    # No text says which experts win by more bits, so that they have them as layers do that no text rounds.
    outer_experts = outer if spread is None else _outer(matrices, of_three=1)
    largest = max((matrix.elements for matrix in matrices if not (matrix.embedding or matrix.recurrent)), default=0)
    for matrix in matrices:
        form = (
            precision.embedding if matrix.embedding else precision.recurrent if matrix.recurrent else precision.layers
        )
        if not (matrix.embedding or matrix.recurrent):
            if matrix.name in longest:
                finer = matrix.name in (outer_experts if matrix.routed else outer)
                form = (precision.longest or form) if finer else form
            elif _SMALL * matrix.elements <= largest and not matrix.routed:  # together experts are most of the weights
                form = precision.smallest or form
        if isinstance(form, Int8MatmulFormat) and (matrix.routed or not matrix.stacked):
            # How much inputs of 8 bits cost is found out layer by layer; an expert may see no token of the text.
            form = precision.embedding
        if matrix.name in kept or not isinstance(form, WeightFormat):
            formats[matrix.name] = None if matrix.name in kept else form
            continue
        form = replace(form, symmetric=form.symmetric if symmetric is None else symmetric)
        fitted = fit_block_size(form, matrix.features, block_size=block_size, short=short_blocks)
        if fitted is None and block_size is not None:
            misfits.append((matrix, block_size))
        elif fitted is None:
            unfitted.append((matrix, BLOCK_SIZES[0]))
            notes.append(f"{matrix.name}: float32, no block size divides its {matrix.features} input features")
        elif block_size is None and fitted != form:
            notes.append(f"{matrix.name}: block size {fitted.block_size}, {form.block_size} does not divide its input")
        formats[matrix.name] = fitted
    if misfits:
        _refuse_misfits(misfits)
    if unfitted and not any(formats.values()):
        _refuse_misfits(unfitted)
    balances = any(
        isinstance(form := formats[matrix.name], WeightFormat) and form.block_size != ROW
        for matrix in matrices
        if not (matrix.embedding or matrix.recurrent)
    )
    return FormatChoice(
        formats=formats,
        algorithm="rtn" if precision.algorithm == "balanced" and not balances else precision.algorithm,
        max_kl=precision.budget.max_mean_kl if precision.algorithm == "smoothquant" else None,
        spread=spread,
        narrow_embedding=None if narrow is None else changed(narrow),
        notes=tuple(notes),
    )


def _spread(
    precision: Precision, changed: Callable[[WeightFormat], WeightFormat], *, stored_bits: bool
) -> tuple[WeightFormat, ...] | None:
    few, many = precision.layers, precision.longest
    if not (isinstance(few, WeightFormat) and many is not None and few.bits < many.bits):
        return None
    between = precision.between if stored_bits else ()
    return tuple(changed(form) for form in (few, *between, many))


def _changed(form: WeightFormat, *, block_size: int | None, symmetric: bool | None) -> WeightFormat:
    """A format as the user wants it."""
    return replace(
        form,
        block_size=block_size or form.block_size,
        symmetric=form.symmetric if symmetric is None else symmetric,
    )


def finer_without_text(choice: FormatChoice, matrices: Sequence[Matrix]) -> FormatChoice:
    """The choice for weights that no text rounds, in the bits between few and many where a file can hold these.

    Measured on SmolLM2-135M, rounded to nearest: 110 MB of 6 bits, with 8 for the smallest layers, lose a fifth of what
    102 MB of 4 and 8 bits lose. A model of more weights than `MOST_WITHOUT_TEXT` has 4 and 8 bits, since its kernels'
    memory counts.

    Args:
        choice: grids that layers lie on have been taken; where all do, the embedding keeps its bits.
    """
    sizes = {matrix.storage: matrix.elements for matrix in matrices}
    spread = choice.spread or ()
    if len(spread) < 3 or choice.algorithm == "grid" or sum(sizes.values()) > MOST_WITHOUT_TEXT:
        return choice
    few, finest = spread[0], spread[-2]
    longest = _longest(matrices)
    formats = dict(choice.formats)
    for matrix in matrices:
        form = formats.get(matrix.name)
        if isinstance(form, WeightFormat) and (matrix.embedding or form.bits == few.bits or matrix.name in longest):
            narrow = (choice.narrow_embedding if matrix.embedding else None) or finest
            formats[matrix.name] = fit_block_size(narrow, matrix.features) or form
    return replace(choice, formats=formats)


def kept_names(matrices: Sequence[Matrix], patterns: Sequence[str]) -> set[str]:
    """Names that the patterns keep, and the other name of a tied embedding with them."""
    storages = set()
    for pattern in patterns:
        hits = {matrix.storage for matrix in matrices if fnmatchcase(matrix.name, pattern)}
        if not hits:
            near = [file for file in get_close_matches(pattern, FEATURE_GRAPHS) if file != pattern]
            raise InputError(
                "A pattern of layers to keep matches nothing",
                received=f"--keep {pattern}",
                allowed=f"patterns of module paths such as {', '.join(_examples(matrices))}",
                fix=f"Did you mean {near[0]}?"
                if near
                else "Correct the pattern; * stands for any text, so that '*.down_proj' means all of that name.",
            )
        storages |= hits
    if patterns and all(matrix.storage in storages for matrix in matrices):
        raise InputError(
            "The patterns of layers to keep leave nothing to quantize",
            received=", ".join(f"--keep {pattern}" for pattern in patterns),
            allowed="patterns that leave at least one layer",
            fix="Keep fewer layers, or use --precision fp32.",
        )
    return {matrix.name for matrix in matrices if matrix.storage in storages}


def _examples(matrices: Sequence[Matrix]) -> list[str]:
    names = [matrix.name for matrix in matrices]
    return [names[0], names[len(names) // 2], names[-1]] if len(names) > 2 else names


def scale_bytes(target: str) -> int:
    """Bytes of the scale of a block: two where scales are stored in half, in which nearly all of them are exact."""
    return 4 if target == "portable" else 2


def _longest(matrices: Sequence[Matrix]) -> set[str]:
    """Names of the decoder's layers with the most input features; none where all have as many.

    Of experts, those that write hidden states: `down_proj` of fine-grained ones has fewer inputs than the others.
    """
    layers = [matrix for matrix in matrices if not (matrix.embedding or matrix.recurrent)]
    hidden = {matrix.features for matrix in matrices if matrix.embedding}
    writing = [one for one in layers if one.routed and one.rows in hidden and one.features not in hidden]
    longest = {one.name for one in writing}
    for group in ([one for one in layers if not one.routed], [] if writing else [one for one in layers if one.routed]):
        features = {one.features for one in group}
        if len(features) > 1:
            longest |= {one.name for one in group if one.features == max(features)}
    return longest


def _outer(matrices: Sequence[Matrix], *, of_three: int) -> set[str]:
    """Names in the first and last eighth of the stack's layers, and in so many of three between; all of another module.

    Which layers llama.cpp's K-quants give more bits, too.
    """
    numbers = {
        matrix.name: next((int(part) for part in matrix.name.split(".") if part.isdigit()), 0) for matrix in matrices
    }
    layers = max(numbers.values(), default=0) + 1
    edge = max(1, layers // 8)
    return {
        name
        for name, number in numbers.items()
        if number < edge or number >= layers - edge or (number - edge) % 3 >= 3 - of_three
    }


def takes_short_blocks(target: str) -> bool:
    """Whether the last block of a row may be shorter: ONNX Runtime's CPU kernels take it, nobody tried others."""
    return target in ("ort-cpu", "portable")


def stores_all_bits(target: str, matrices: Sequence[Matrix] = ()) -> bool:
    """Whether the target's files hold codes of bits that no kernel takes: see `exporter.passes.pack_narrow_codes`.

    Args:
        matrices: of a model; one of more weights than can be put together at once has none.
    """
    sizes = {matrix.storage: matrix.elements for matrix in matrices}
    return target == "ort-cpu" and sum(sizes.values()) <= MOST_STORED_CODES


def fit_block_size(
    form: WeightFormat, features: int, *, block_size: int | None = None, short: bool = True
) -> WeightFormat | None:
    """The format with this block size, or with the largest up to its own that divides the features.

    Where none divides them, and a ``short`` last block is taken, the one that stores least; rows of whole bytes only.
    """
    if block_size is not None:
        return replace(form, block_size=block_size) if features % block_size == 0 else None
    if form.block_size == ROW:
        return form
    sizes = [size for size in BLOCK_SIZES if size <= form.block_size]
    fitting = [size for size in sizes if features % size == 0]
    if not fitting and short and features * form.bits % 8 == 0:
        fitting = [min(sizes, key=lambda size: -(-features // size) * (size * form.bits // 8 + _SCALE_BYTES))]
    return replace(form, block_size=fitting[-1]) if fitting else None


def _refuse_misfits(misfits: Sequence[tuple[Matrix, int]]) -> None:
    shown = ", ".join(f"K={matrix.features} of {matrix.name}" for matrix, _ in misfits[:3])
    more = f" and {len(misfits) - 3} more" if len(misfits) > 3 else ""
    fitting = [size for size in BLOCK_SIZES if all(matrix.features % size == 0 for matrix, _ in misfits)]
    fix = f"Use --block-size {fitting[-1]}, or keep these layers with --keep." if fitting else "Keep them with --keep."
    raise InputError(
        f"The block size {misfits[0][1]} does not divide {shown}{more}",
        received=f"blocks of {misfits[0][1]} input features",
        allowed=f"block size {', '.join(map(str, fitting))}" if fitting else "no block size divides all of these",
        fix=fix,
    )


def _refuse_options(
    precision: Precision, *, keep: Sequence[str] = (), block_size: int | None, symmetric: bool | None
) -> None:
    options = [f"--keep {pattern}" for pattern in keep]
    options += [] if block_size is None else [f"--block-size {block_size}"]
    options += [] if symmetric is None else ["--symmetric" if symmetric else "--asymmetric"]
    if options:
        raise InputError(
            f"The precision {precision.name} has no blocks that these options could change",
            received=", ".join(options),
            allowed="a precision whose weights are integers in blocks",
            fix="Leave them out, or use --precision int8 or int4.",
        )
