"""What a diagnosis says, and how far a piece may be from the source before it counts as diverged."""

from __future__ import annotations

from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.graph.localize import HIDDEN_ERROR
from jisu.exporter.precision.precision import Int8MatmulFormat, WeightFormat, precision_named

Floats = npt.NDArray[np.float64]
# A piece that was rounded differs by design. It parts when it is far beyond what the others differ by at that token,
# and in any case beyond what no rounding explains. In sd: (what no piece is blamed for, what no rounding explains).
_HALF, _EIGHT_BITS, _FOUR_BITS = (0.02, 0.5), (0.1, 1.0), (0.5, 4.0)
_TIMES_THE_OTHERS = 8.0


@dataclass(frozen=True, kw_only=True)
class Limits:
    """``lowest`` and ``highest`` in sd; the same number where nothing was rounded."""

    lowest: float
    highest: float

    def at(self, errors: Floats, *, share: float = 0.5) -> float:
        """The limit for the pieces [N] of one step, of which at least this share are taken to be right."""
        finite = errors[np.isfinite(errors)]
        usual = float(np.quantile(finite, share)) if len(finite) else 0.0
        return min(self.highest, max(self.lowest, _TIMES_THE_OTHERS * usual))


def limits_of(precision: str) -> Limits:
    """How far the pieces of an artifact may be from the source, which is float32."""
    known = precision_named(precision)
    if precision == "fp32":
        return Limits(lowest=HIDDEN_ERROR, highest=HIDDEN_ERROR)
    if known.half is not None:
        lowest, highest = _HALF
        return Limits(lowest=lowest * (8 if known.half == "bfloat16" else 1), highest=highest)
    # A mixed precision and a file's own integers may have any number of bits.
    bits = known.layers.bits if isinstance(known.layers, WeightFormat) else 4
    lowest, highest = _EIGHT_BITS if bits >= 8 or isinstance(known.layers, Int8MatmulFormat) else _FOUR_BITS
    return Limits(lowest=lowest, highest=highest)


@dataclass(frozen=True, kw_only=True)
class Finding:
    """Where the target diverges from the source.

    Attributes:
        piece: ``layer 2``, ``embedding``, ``output``.
        layer: the layer's number; None outside of the layers.
        step: 0 for the prompt, then the number of the decoded token.
        error, limit: in standard deviations of what the source gives there.
        operators: the narrowest stretch that is known to be wrong, in words.
        subgraph: the file that holds it.
    """

    piece: str
    layer: int | None
    step: int
    error: float
    limit: float
    operators: str
    subgraph: Path

    @property
    def sentence(self) -> str:
        when = "the prompt" if self.step == 0 else f"decode step {self.step}"
        return (
            f"{self.piece} diverges from the source at {when}: {self.error:.3g} sd, "
            f"which exceeds the tolerance of {self.limit:.3g}."
        )


@dataclass(frozen=True, kw_only=True)
class Diagnosis:
    """Every piece's own error, [pieces, 1 + steps] in sd, and the first finding; None where nothing parts."""

    pieces: tuple[str, ...]
    errors: Floats
    finding: Finding | None
    notes: tuple[str, ...] = field(default=())

    def to_dict(self) -> dict[str, Any]:
        finding = None if self.finding is None else {**asdict(self.finding), "subgraph": str(self.finding.subgraph)}
        errors = {
            piece: [None if not np.isfinite(error) else float(error) for error in row]
            for piece, row in zip(self.pieces, self.errors, strict=True)
        }
        return {"finding": finding, "errors_in_sd": errors, "notes": list(self.notes)}
