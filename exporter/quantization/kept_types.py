"""What became of the weights of each stored type when their integers were taken over, for the manifest and in words."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt


@dataclass(kw_only=True)
class KeptType:
    """What became of the tensors of one type. Errors are relative to the root mean square of the stored weights."""

    stored: str
    exact: bool
    weights: int = 0
    largest_error: float = 0.0
    _squares: float = 0.0
    _errors: float = 0.0
    names: list[str] = field(default_factory=list)

    def add(self, name: str, before: npt.NDArray[np.float32], after: npt.NDArray[np.float32]) -> None:
        import numpy as np

        difference = after.astype(np.float64) - before
        scale = float(np.sqrt(np.mean(before.astype(np.float64) ** 2))) or 1.0
        self.weights += 1
        self.names.append(name)
        self.largest_error = max(self.largest_error, float(np.abs(difference).max()) / scale)
        self._squares += float((before.astype(np.float64) ** 2).sum())
        self._errors += float((difference**2).sum())

    def to_record(self) -> dict[str, Any]:
        rms = (self._errors / self._squares) ** 0.5 if self._squares else 0.0
        return {
            "stored": self.stored,
            "exact": self.exact,
            "weights": self.weights,
            "largest_error": self.largest_error,
            "rms_error": rms,
        }


def describe_kept(record: dict[str, Any]) -> list[str]:
    """One sentence for each type of tensor."""
    lines = []
    for kind, kept in record["types"].items():
        how = f"{kept['weights']} weights of type {kind} kept as {kept['stored']}"
        if kept["exact"]:
            lines.append(f"{how}, bit for bit.")
        else:
            lines.append(
                f"{how}, the closest form that runs fast: off by {kept['rms_error']:.2%} in the mean (rms), "
                f"{kept['largest_error']:.2%} of a weight's rms at most."
            )
    return lines
