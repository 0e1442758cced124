"""Fetches a model from the hub, and only the files that are read: the one place where the network is touched."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.embedding.description import is_embedding_folder, module_places
from jisu.exporter.sources.folder import load_folder
from jisu.exporter.sources.reranking.options import RerankOptions
from jisu.exporter.sources.source import Source

_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "README.md")
# What tells of the weights without being them; an index, where they are many.
_OUTLINE = _PATTERNS[1:]
_PICKLES = ("pytorch_model*.bin",)


def load_hub_model(
    name: str,
    *,
    revision: str | None = None,
    allow_pickle: bool = False,
    ignore_weights: Sequence[str] = (),
    outline: bool = False,
    scratch: Path | None = None,
    pooling: str | None = None,
    reranking: RerankOptions | None = None,
) -> Source:
    """Download (or find in the local cache) a model of the hub and load it, its weights unless ``outline``.

    Raises:
        InputError: the network or the repository cannot be reached, or see `exporter.sources.load_source`.
    """
    if outline:
        folder = _with_modules(_download(name, revision, _OUTLINE), name, revision, _OUTLINE)
        return load_folder(folder, ignore_weights=ignore_weights, outline=True, pooling=pooling, reranking=reranking)
    folder = _download(name, revision, _PATTERNS)
    if allow_pickle and not any(folder.glob("*.safetensors")):
        folder = _download(name, revision, (*_PATTERNS, *_PICKLES))
    folder = _with_modules(folder, name, revision, (*_PATTERNS, *(_PICKLES if allow_pickle else ())))
    # A snapshot folder is named by the commit that it holds.
    origin = {"kind": "hf-hub", "name": name, "revision": folder.name}
    return load_folder(
        folder,
        allow_pickle=allow_pickle,
        ignore_weights=ignore_weights,
        origin=origin,
        scratch=scratch,
        pooling=pooling,
        reranking=reranking,
    )


def _with_modules(folder: Path, name: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    """The folder with those of the modules that it lists, where it is laid out as sentence-transformers does it."""
    if not is_embedding_folder(folder):
        return folder
    places = [place for place in module_places(folder) if place]
    inside = tuple(f"{place}/{pattern}" for place in places for pattern in patterns)
    return _download(name, revision, inside, ignored=()) if inside else folder


def _download(
    name: str, revision: str | None, patterns: tuple[str, ...], *, ignored: tuple[str, ...] = ("*/*",)
) -> Path:
    """Fetch files of a repository; those in subfolders are mostly other formats of the same weights."""
    from huggingface_hub import snapshot_download

    try:
        place = snapshot_download(name, revision=revision, allow_patterns=list(patterns), ignore_patterns=list(ignored))
        return Path(place)
    except Exception as error:
        reason, fix = _explain(error, revision)
        raise InputError(
            f"There is no folder or file {name} here, and as a model of the hub it cannot be fetched: {reason}",
            received=f"{name}{'' if revision is None else ' at ' + revision}",
            allowed="an existing folder, a GGUF file, or a hub id that can be reached",
            fix=fix,
        ) from error


def _explain(error: Exception, revision: str | None) -> tuple[str, str]:
    """The reason of a failed download and what to do, in words; subclasses come before what they derive from."""
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return "the repository is gated", "Accept its terms on the hub and log in with `hf auth login`."
    if isinstance(error, errors.RevisionNotFoundError):
        return f"it has no revision {revision!r}", "Check the revision."
    if isinstance(error, errors.RepositoryNotFoundError):
        return "there is no such repository, or it is private", "Check the spelling."
    if isinstance(error, errors.HFValidationError):
        return "this is not a valid hub id", "Check the spelling."
    if isinstance(error, (errors.LocalEntryNotFoundError, ConnectionError)):
        return (
            "the hub cannot be reached and the model is not in the local cache",
            "Check the network, or give a folder or a GGUF file instead.",
        )
    return f"the download failed with {type(error).__name__}", "Check the network and the free disk space."
