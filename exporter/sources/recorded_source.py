"""The source that an artifact's manifest names, or another place where it lies now."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.source_place import read_place
from jisu.exporter.jobs.output_path import scratch_folder
from jisu.exporter.sources.adapter_config import is_adapter

if TYPE_CHECKING:
    from torch import nn

    from jisu.exporter.sources.source import Source


def load_recorded_source(
    artifact: Artifact,
    source: str | Path | nn.Module | None,
    *,
    allow_pickle: bool = False,
    ignore_weights: Sequence[str] | None = None,
    same_files: bool = False,
    tokenizer: Any = None,
) -> Source:
    """Load the given checkpoint, or the one that the manifest names.

    Args:
        tokenizer: of a module or factory.
        ignore_weights: patterns of its tensors to leave out; those that the export left out when None.
        same_files: refuse a checkpoint whose files are not the ones that the artifact was made from.
    """
    from jisu.exporter.sources import load_source
    from jisu.exporter.sources.reranking.options import RerankOptions

    recorded: dict[str, Any] = _with_places(artifact)
    place = source if source is not None else recorded.get("name")
    if place is None or (source is None and not _can_be_found(recorded)):
        raise InputError(
            f"The source of {artifact.folder} was not found",
            received=place,
            allowed="the checkpoint that the artifact was made from",
            fix="Name it with --source.",
        )
    # The recorded revision belongs to the recorded place, not to another one.
    revision = recorded.get("revision") if source is None else None
    loaded = load_source(
        place,
        revision=revision,
        allow_pickle=allow_pickle,
        ignore_weights=_left_out(recorded, place) if ignore_weights is None else ignore_weights,
        adapters=_merged(recorded, place),
        tokenizer=tokenizer,
        scratch=scratch_folder(artifact.folder),
        pooling=recorded.get("pooling"),
        reranking=RerankOptions.from_record(recorded.get("reranking")),
    )
    if same_files and file_hashes(loaded.provenance) != file_hashes(recorded):
        shown = place if isinstance(place, (str, Path)) else type(place).__name__
        raise InputError(
            f"{shown} is not the checkpoint that {artifact.folder} was made from",
            received="weights with other hashes",
            allowed="the very same checkpoint",
            fix="Name the right one with --source.",
        )
    if loaded.model_kind != artifact.manifest.model_kind:
        raise InputError(
            f"{artifact.folder} was made from a model for {artifact.manifest.model_kind}",
            received=f"a source for {loaded.model_kind}",
            allowed="the checkpoint that it was made from",
            fix="Name the right one with --source.",
        )
    return loaded


def _with_places(artifact: Artifact) -> dict[str, Any]:
    """What the manifest records of the source, with the paths that it had on this machine."""
    recorded, place = artifact.manifest.source, read_place(artifact.folder)
    moved = {} if place.checkpoint is None else {"name": place.checkpoint}
    return {**recorded, **moved, **({"adapters": place.adapters} if place.adapters else {})}


def _left_out(recorded: dict[str, Any], place: str | Path | nn.Module) -> tuple[str, ...]:
    """The patterns of weights that an export was asked to leave out, where the place of the source has stored ones."""
    from jisu.exporter.sources.kinds import kind_of

    if not isinstance(place, (str, Path)) or kind_of(place) == "factory":
        return ()
    account = recorded.get("account")
    patterns = account.get("ignore_weights") if isinstance(account, dict) else None
    return tuple(str(one) for one in patterns) if isinstance(patterns, list) else ()


def _merged(recorded: dict[str, Any], place: str | Path | nn.Module) -> tuple[str, ...]:
    """The adapters that the export merged; a place that is an adapter itself, or a module, has its own."""
    adapters = recorded.get("adapters")
    own = not isinstance(place, (str, Path)) or is_adapter(Path(place))
    return () if own or not isinstance(adapters, list) else tuple(str(one) for one in adapters)


def _can_be_found(recorded: dict[str, Any]) -> bool:
    """Whether the place of a recorded source tells where it is; a module that was handed over had none."""
    kind = recorded.get("kind")
    return kind in ("hf-hub", "factory") or (kind != "module" and Path(str(recorded.get("name"))).exists())


def file_hashes(provenance: dict[str, Any]) -> list[str]:
    """Hashes of the files that a source was read from, in one order."""
    return sorted(str(record.get("sha256")) for record in provenance.get("files", {}).values())
