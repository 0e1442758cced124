"""Checkpoints in, sources out: a Hugging Face folder, a hub id, a GGUF file or a factory becomes a loaded torch model.

Nothing of a stored checkpoint is ever executed, and the network is touched only for a hub id. Importing this package
loads neither torch nor transformers.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    from torch import nn

    from jisu.exporter.sources.reranking.options import RerankOptions
    from jisu.exporter.sources.source import Source

__all__ = ["load_source"]


def load_source(
    checkpoint: str | Path | nn.Module,
    *,
    revision: str | None = None,
    allow_pickle: bool = False,
    ignore_weights: Sequence[str] = (),
    adapters: Sequence[str | Path] = (),
    outline: bool = False,
    tokenizer: Any = None,
    scratch: Path | None = None,
    pooling: str | None = None,
    reranking: RerankOptions | None = None,
) -> Source:
    """Load a checkpoint as float32 on the CPU.

    Args:
        checkpoint: a Hugging Face folder, a GGUF file, a hub id such as ``org/name``, a factory such as
            ``package.module:build`` that returns an `nn.Module`, or the module itself.
        revision: branch, tag or commit of a hub id.
        allow_pickle: also read ``.bin`` and ``.pt`` weights, through torch's restricted unpickler.
        ignore_weights: patterns of stored tensors to leave out, such as ``*.mtp.*``: those that it holds and
            its model has no place for, which is refused without it.
        adapters: folders of LoRA adapters (PEFT), which are merged into the weights one after the other.
        outline: read no weights; the module is on torch's meta device, and the provenance is short. Everything that can
            be found wrong without them is. A factory is called all the same.
        tokenizer: of a factory's module, see `exporter.sources.given_tokenizer.read_tokenizer`; any other checkpoint
            brings its own.
        scratch: a folder in which the weights of a large model may be kept in a file without a name, see
            `exporter.sources.paged_weights`; in memory when None. A module that is handed over is left where it is.
        pooling: makes an embedding model of a folder's or the hub's plain encoder, one of
            `exporter.sources.embedding.description.POOLING_MODES`; folders of sentence-transformers say it themselves.
        reranking: makes a reranker of a folder's or the hub's decoder; likewise.

    Raises:
        InputError: the checkpoint is missing, damaged, incomplete, no language model, or wants to run code of its own.
        MissingDependencyError: a package that this kind of checkpoint needs is not installed.
    """
    from jisu.exporter.sources.adapter import merge_adapters, with_base
    from jisu.exporter.sources.paged_weights import moving_into

    if isinstance(checkpoint, (str, Path)):
        checkpoint, adapters = with_base(checkpoint, adapters)
    source = _load(
        checkpoint,
        revision=revision,
        allow_pickle=allow_pickle,
        ignore_weights=ignore_weights,
        outline=outline,
        tokenizer=tokenizer,
        scratch=scratch,
        pooling=pooling,
        reranking=reranking,
    )
    with moving_into(source.paged):
        source = merge_adapters(source, [Path(one) for one in adapters], allow_pickle=allow_pickle)
    if source.paged is not None:
        source.paged.adopt(source.module)
    return source


def _load(
    checkpoint: str | Path | nn.Module,
    *,
    revision: str | None,
    allow_pickle: bool,
    ignore_weights: Sequence[str],
    outline: bool,
    tokenizer: Any,
    scratch: Path | None,
    pooling: str | None,
    reranking: RerankOptions | None,
) -> Source:
    from jisu.exporter.sources.kinds import kind_of

    own = not isinstance(checkpoint, (str, Path))
    kind = "module" if own else kind_of(checkpoint)  # type: ignore[arg-type]
    shown = type(checkpoint).__name__ if own else str(checkpoint)
    if revision is not None and kind != "hf-hub":
        raise InputError(
            f"A revision was given for {shown}, which is not a hub id",
            received=revision,
            allowed="a revision together with a hub id such as org/name",
            fix="Leave the revision out.",
        )
    if pooling is not None and kind not in ("hf-folder", "hf-hub"):
        raise InputError(
            f"A pooling was named for {shown}, which is no folder of an encoder",
            received=f"--pooling {pooling}",
            allowed="a pooling together with a Hugging Face folder or a hub id",
            fix="Leave --pooling out; a module of your own pools itself.",
        )
    if reranking is not None and kind not in ("hf-folder", "hf-hub"):
        raise InputError(
            f"A reranker's prompt was named for {shown}, which is no folder of a decoder",
            received="--rerank-prompt",
            allowed="it together with a Hugging Face folder or a hub id",
            fix="Leave it out, or export the folder that the file was made from.",
        )
    if kind in ("module", "factory"):
        if ignore_weights:
            raise InputError(
                f"Weights to leave out were named for {shown}, which is a module",
                received=", ".join(ignore_weights),
                allowed="patterns of tensors that a folder, a GGUF file or a model of the hub holds",
                fix="Leave --ignore-weights out.",
            )
        from jisu.exporter.sources.own_module import load_factory, source_of_module

        if kind == "factory":
            return load_factory(str(checkpoint), tokenizer=tokenizer)
        return source_of_module(checkpoint, tokenizer=tokenizer)
    if tokenizer is not None:
        raise InputError(
            f"A tokenizer was given for {shown}, which brings its own",
            received=tokenizer if isinstance(tokenizer, (str, Path)) else type(tokenizer).__name__,
            allowed="a tokenizer together with a module or a factory such as package.module:build",
            fix="Leave the tokenizer out; to exchange it, put its files into the checkpoint's folder.",
        )
    if kind == "gguf":
        from jisu.exporter.sources.gguf.file import load_gguf_file

        return load_gguf_file(Path(shown), outline=outline, ignore_weights=ignore_weights, scratch=scratch)
    if kind == "hf-hub":
        from jisu.exporter.sources.hub import load_hub_model

        return load_hub_model(
            shown,
            revision=revision,
            allow_pickle=allow_pickle,
            ignore_weights=ignore_weights,
            outline=outline,
            scratch=scratch,
            pooling=pooling,
            reranking=reranking,
        )
    from jisu.exporter.sources.folder import load_folder

    return load_folder(
        Path(shown),
        allow_pickle=allow_pickle,
        ignore_weights=ignore_weights,
        outline=outline,
        scratch=scratch,
        pooling=pooling,
        reranking=reranking,
    )
