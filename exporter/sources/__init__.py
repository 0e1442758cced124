"""Checkpoints in, sources out: a Hugging Face folder, a hub id or a GGUF file becomes a loaded torch model.

Nothing of a checkpoint is ever executed, and the network is touched only for a hub id. Importing this package loads
neither torch nor transformers.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from exporter.errors import InputError

if TYPE_CHECKING:
    from exporter.sources.source import Source

__all__ = ["load_source"]


def load_source(
    checkpoint: str | Path, *, revision: str | None = None, allow_pickle: bool = False, outline: bool = False
) -> Source:
    """Load a checkpoint as float32 on the CPU.

    Args:
        checkpoint: a Hugging Face folder, a GGUF file, or a hub id such as ``org/name``.
        revision: branch, tag or commit of a hub id.
        allow_pickle: also read ``.bin`` and ``.pt`` weights, through torch's restricted unpickler.
        outline: read no weights; the module is on torch's meta device, and the provenance is short. Everything that can
            be found wrong without them is.

    Raises:
        InputError: the checkpoint is missing, damaged, incomplete, not a decoder, or wants to run code of its own.
        MissingDependencyError: a package that this kind of checkpoint needs is not installed.
    """
    from exporter.sources.kinds import kind_of

    kind = kind_of(checkpoint)
    if revision is not None and kind != "hf-hub":
        raise InputError(
            f"A revision was given for {checkpoint}, which is not a hub id",
            received=revision,
            allowed="a revision together with a hub id such as org/name",
            fix="Leave the revision out.",
        )
    if kind == "gguf":
        from exporter.sources.gguf_file import load_gguf_file

        return load_gguf_file(Path(checkpoint), outline=outline)
    if kind == "hf-hub":
        from exporter.sources.hub import load_hub_model

        return load_hub_model(str(checkpoint), revision=revision, allow_pickle=allow_pickle, outline=outline)
    from exporter.sources.folder import load_folder

    return load_folder(Path(checkpoint), allow_pickle=allow_pickle, outline=outline)
