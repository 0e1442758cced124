"""A small model written and exported for a table: the artifact, or one sentence that says why there is none."""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.benchmarks.studies.sentences import named, sentence

if TYPE_CHECKING:
    from jisu.exporter.contract.artifact import Artifact


@dataclass(frozen=True, kw_only=True)
class TriedExport:
    """What came out.

    Attributes:
        artifact: None where there is none.
        reason: why; empty with an artifact.
        seconds: of CPU time, of the export.
        written: what writing the model returned.
    """

    artifact: Artifact | None = None
    reason: str = ""
    seconds: float = 0.0
    written: Any = None

    @property
    def worst(self) -> float:
        """The largest error of the artifact's logits, in standard deviations, to two digits."""
        assert self.artifact is not None, "figures of an export that came to its end"
        checks = self.artifact.manifest.gate["checks"]
        return float(f"{max(check['value'] for check in checks if check['unit'] == 'sd of the logits'):.2g}")


def try_export(write: Callable[[Path], Any], folder: Path) -> TriedExport:
    """Export what ``write`` puts into a folder of this folder."""
    from jisu.exporter.contract.artifact import REJECTED
    from jisu.exporter.contract.errors import GateRejectedError
    from jisu.exporter.pipeline import export

    source, out = folder / "source", folder / "out"
    try:
        written = write(source)
    except Exception as error:  # noqa: BLE001 - the reason is what is wanted
        return TriedExport(reason=f"A small model of its default configuration does not run: {sentence(error)}")
    begun = time.process_time()
    try:
        artifact = export(source, out)
    except GateRejectedError:
        record = json.loads((out.with_name(f"{out.name}.rejected") / REJECTED).read_text(encoding="utf-8"))
        failing = [check for check in record["gate"]["checks"] if not check["passed"]]
        names = ", ".join(check["name"] for check in failing)
        return TriedExport(reason=f"The gate rejects it ({names}): {failing[0]['detail']}")
    except Exception as error:  # noqa: BLE001
        return TriedExport(reason=named(sentence(error), source))
    return TriedExport(artifact=artifact, seconds=round(time.process_time() - begun, 1), written=written)
