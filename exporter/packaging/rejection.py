"""What the gate rejected is kept beside the place it was meant for, with the numbers: evidence, never an artifact."""

from __future__ import annotations

from pathlib import Path

from jisu.exporter.contract.artifact import REJECTED, Manifest
from jisu.exporter.contract.errors import GateRejectedError
from jisu.exporter.packaging.staging import replace_folder

REJECTED_SUFFIX = ".rejected"


def keep_rejected(staged: Path, out: Path, manifest: Manifest, *, summary: str) -> GateRejectedError:
    """Move what was written aside, with the numbers, and make the error that says why.

    Args:
        summary: the gate's verdict in a sentence.
    """
    # Written instead of the manifest: nothing takes a folder with it for an artifact.
    (staged / REJECTED).write_text(manifest.to_json(), encoding="utf-8")
    place = out.with_name(out.name + REJECTED_SUFFIX)
    if (place / REJECTED).is_file():
        replace_folder(staged, place)  # an earlier rejection of ours
    else:
        if place.exists():
            place = staged.with_suffix(REJECTED_SUFFIX)
        staged.rename(place)
    error = GateRejectedError(
        f"The exported model is not the model it was made from. {summary}",
        fix=f"Nothing was published to {out}; the rejected files and all numbers ({REJECTED}) are in {place}.",
    )
    error.gate = manifest.gate
    return error
