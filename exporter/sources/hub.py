"""Fetches a model from the hub, and only the files that are read: the one place where the network is touched."""

from __future__ import annotations

from pathlib import Path

from exporter.errors import InputError
from exporter.sources.folder import load_folder
from exporter.sources.source import Source

_PATTERNS = ("*.safetensors", "*.json", "*.jinja", "*.model", "merges.txt", "vocab.txt", "README.md")
_PICKLES = ("pytorch_model*.bin",)


def load_hub_model(name: str, *, revision: str | None = None, allow_pickle: bool = False) -> Source:
    """Download (or find in the local cache) a model of the hub and load it.

    Raises:
        InputError: the network or the repository cannot be reached, or see `exporter.sources.load_source`.
    """
    folder = _download(name, revision, _PATTERNS)
    if allow_pickle and not any(folder.glob("*.safetensors")):
        folder = _download(name, revision, (*_PATTERNS, *_PICKLES))
    # A snapshot folder is named by the commit that it holds.
    origin = {"kind": "hf-hub", "name": name, "revision": folder.name}
    return load_folder(folder, allow_pickle=allow_pickle, origin=origin)


def _download(name: str, revision: str | None, patterns: tuple[str, ...]) -> Path:
    import httpx
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import (
        GatedRepoError,
        HfHubHTTPError,
        HFValidationError,
        LocalEntryNotFoundError,
        OfflineModeIsEnabled,
        RepositoryNotFoundError,
        RevisionNotFoundError,
    )

    try:
        # Files in subfolders are other formats of the same weights.
        return Path(
            snapshot_download(name, revision=revision, allow_patterns=list(patterns), ignore_patterns=["*/*"])
        )
    except GatedRepoError as error:
        reason, fix = "the repository is gated", "Accept its terms on the hub and log in with `hf auth login`."
        cause: Exception = error
    except RevisionNotFoundError as error:
        reason, fix, cause = f"it has no revision {revision!r}", "Check the revision.", error
    except RepositoryNotFoundError as error:
        reason, fix = "there is no such repository, or it is private", "Check the spelling; a folder must exist already."
        cause = error
    except HFValidationError as error:
        reason, fix, cause = "this is not a valid hub id", "Check the spelling.", error
    except (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.TransportError, ConnectionError) as error:
        reason, fix = "the hub cannot be reached and the model is not in the local cache", (
            "Check the network, or give a folder or GGUF file instead."
        )
        cause = error
    except (HfHubHTTPError, OSError) as error:
        reason, fix, cause = f"the download failed ({type(error).__name__})", "Try again later.", error
    raise InputError(
        f"The model {name} cannot be fetched from the hub: {reason}",
        received=f"{name}{'' if revision is None else ' at ' + revision}",
        allowed="an existing folder, a GGUF file, or a hub id that can be reached",
        fix=fix,
    ) from cause
