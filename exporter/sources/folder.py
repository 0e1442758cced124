"""Loads a Hugging Face folder. Cheap checks come first: configuration, then tables of contents, then the weights."""

from __future__ import annotations

import difflib
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError, JisuError
from jisu.exporter.contract.placeholders import refuse_placeholder
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.audio_text import audio_text_class, hearing_source
from jisu.exporter.sources.derived_tensors import check_derived
from jisu.exporter.sources.embedding.description import EmbeddingDescription, static_steps
from jisu.exporter.sources.facts import (
    weight_bytes,
)
from jisu.exporter.sources.folder_contents import FolderContents, FolderPlace, read_contents
from jisu.exporter.sources.generation import check_generation
from jisu.exporter.sources.heads import choose_head, described_use
from jisu.exporter.sources.image_processor import PROCESSOR_FILES
from jisu.exporter.sources.image_text import continues_texts, note_on_images, vision_source
from jisu.exporter.sources.jsonfile import read_json, refuse_remote_code
from jisu.exporter.sources.linear_layers import use_linear_layers
from jisu.exporter.sources.model import (
    load_weights,
)
from jisu.exporter.sources.outline import outline_source
from jisu.exporter.sources.paged_weights import is_large, moving_into, paged_weights
from jisu.exporter.sources.plausible import check_layer_count
from jisu.exporter.sources.provenance import record_origin
from jisu.exporter.sources.quantized import forget_quantization, read_declaration
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of
from jisu.exporter.sources.reranking.description import Reranking
from jisu.exporter.sources.reranking.options import RerankOptions
from jisu.exporter.sources.safetensors_files import find_pickles, find_safetensors
from jisu.exporter.sources.source import Source
from jisu.exporter.sources.stored_tensors import refuse_unexpected
from jisu.exporter.sources.stored_weights import open_weights
from jisu.exporter.sources.text_part import text_part
from jisu.exporter.sources.tokenizer import TOKENIZER_FILES

if TYPE_CHECKING:
    from jisu.exporter.contract.artifact import ModelFacts
    from jisu.exporter.sources.paged_weights import PagedWeights

# What is read of a folder besides its weights, where it is there.
_READ = (
    "config.json",
    "generation_config.json",
    "merges.txt",
    "special_tokens_map.json",
    "added_tokens.json",
    *TOKENIZER_FILES,
    *PROCESSOR_FILES,
)
_LICENCE = re.compile(r"\A---\n.*?^license:[ \t]*[\"']?([^\n\"']+)", re.MULTILINE | re.DOTALL)


def load_folder(
    folder: Path,
    *,
    allow_pickle: bool = False,
    ignore_weights: Sequence[str] = (),
    origin: Mapping[str, Any] | None = None,
    outline: bool = False,
    scratch: Path | None = None,
    pooling: str | None = None,
    reranking: RerankOptions | None = None,
    images: bool = True,
    recordings: bool = True,
) -> Source:
    """Load a folder with config.json, safetensors weights and, usually, a tokenizer.

    Args:
        folder: the folder.
        allow_pickle: read ``.bin``/``.pt`` weights where there are no safetensors files.
        ignore_weights: patterns of stored tensors that are left out.
        origin: replaces kind, name and revision in the provenance; for a folder that came from a hub.
        outline: read tables of contents only; the weights may be missing altogether.
        scratch, pooling, reranking: see `exporter.sources.load_source`.
        images: read them, where the model does; those that also continue texts are loaded without, where they cannot.
        recordings: the same.

    Raises:
        InputError: see `exporter.sources.load_source`.
    """
    static = static_steps(folder)
    if static is not None:
        from jisu.exporter.sources.embedding.static import load_static

        return load_static(folder, *static, origin=origin or {}, allow_pickle=allow_pickle)
    described = described_use(folder)
    checkpoint, folder = folder, _place_of_model(folder, described)
    files, pickled = _weight_files(folder, allow_pickle=allow_pickle, needed=not outline)
    config = _read_config(folder)
    declared = read_declaration(folder)
    # What is loaded has plain weights, whatever they are made of.
    forget_quantization(config)
    head = choose_head(
        config, folder, described=described, pooling=pooling, reranking=reranking, images=images, recordings=recordings
    )
    options = {
        **({} if pooling is None else {"pooling": pooling}),
        **({} if reranking is None else {"reranking": reranking.to_record()}),
    }
    place = FolderPlace(checkpoint=checkpoint, folder=folder, files=tuple(files), pickled=pickled, options=options)
    with open_weights(files, pickled=pickled) as stored:
        account = Account(ignore=tuple(ignore_weights))
        contents = read_contents(place, config, declared, head, stored, account, weightless=outline)
        if outline:
            return _outlined(place, contents)
        paged = paged_weights(contents.empty, scratch, contents.half())
        model, account = _with_weights(place, contents, paged)
    vision = hearing = None
    try:
        if head.reads_images:
            vision = vision_source(model, contents.tokenizer, folder)
        elif head.reads_recordings:
            hearing = hearing_source(model, contents.tokenizer, folder)
    except JisuError as reason:
        again = partial(load_folder, checkpoint, allow_pickle=allow_pickle, ignore_weights=ignore_weights)
        again = partial(again, origin=origin, scratch=scratch, images=False)
        hears = head.reads_images and recordings and audio_text_class(config) is not None
        if not hears and not continues_texts(config):
            raise
        del model
        return _without(partial(again, recordings=hears), reason, images=head.reads_images)
    beside = vision or hearing
    source = Source(
        module=model if beside is None else beside.text_part(),
        model=_facts(place, contents, model),
        model_kind=head.kind,
        tokenizer=contents.tokenizer,
        provenance=_provenance(place, contents, origin or {}),
        account=account,
        audio=contents.audio if hearing is None else hearing.audio,
        open_quantized=contents.open_quantized,
        paged=paged,
        in_place=paged is not None and paged.half is not None,
        weight_bytes=weight_bytes(model),
        notes=(
            *contents.stored.notes,
            *contents.notes,
            *_adapter_note(folder),
            *note_on_images(config),
            *_note_on_sound(config, vision),
        ),
        vision=vision,
        hearing=hearing,
    )
    return _with_head(source, contents, allow_pickle=allow_pickle)


def _outlined(place: FolderPlace, contents: FolderContents) -> Source:
    """The source without weights, its module on the meta device."""
    model = contents.empty
    if contents.generation is not None:
        model.generation_config = contents.generation
    facts = _facts(place, contents, model)
    origin = {"kind": "hf-folder", "name": str(place.checkpoint), **contents.record(place)}
    text = text_part(model) if contents.head.reads_images or contents.head.reads_recordings else model
    source = outline_source(
        text, contents.tokenizer, origin, model_kind=contents.head.kind, facts=facts, account=contents.account
    )
    source = _with_head(source, contents, outline=True)
    in_place = is_large(source) and contents.half() is not None
    whole = None if text is model else model
    return replace(source, open_quantized=contents.open_quantized, audio=contents.audio, in_place=in_place, whole=whole)


def _with_weights(place: FolderPlace, contents: FolderContents, paged: PagedWeights | None) -> tuple[Any, Account]:
    """The model, and the account with what became of every stored tensor."""
    stored = contents.stored
    with moving_into(paged):
        weights = stored.weights if paged is None else paged.lazily(stored.weights)
        half = None if paged is None else paged.half
        model, unexpected = load_weights(contents.head.model_class, contents.config, weights, place.folder, half=half)
        account = check_derived(contents.account, model, stored.weights, contents.matches)
        account = refuse_unexpected(account, unexpected, contents.matches)
        account.refuse(place.folder)
        use_linear_layers(model)
    if contents.generation is not None:
        model.generation_config = contents.generation
    return model, account


def _facts(place: FolderPlace, contents: FolderContents, model: Any) -> ModelFacts:
    """What the manifest records of a model; raises InputError for settings of generation that it cannot follow."""
    facts = contents.head.describe(model, contents.tokenizer, place.folder)
    if contents.head.generates:
        check_generation(model.generation_config, facts, place.folder)
    return facts


def _without(load: Callable[[], Source], reason: JisuError, *, images: bool) -> Source:
    """A model that also reads without its images, or without its recordings, where these cannot be read, and why."""
    try:
        source = load()
    except JisuError as other:
        raise reason from other  # what it is refused for; that its class for texts fails as well says less
    reads = "texts alone" if source.hearing is None else "recordings and texts"
    what = "images" if images else "recordings"
    return replace(source, notes=(f"It reads {reads}, no {what}. {reason}", *source.notes))


def _note_on_sound(config: Any, vision: Any) -> tuple[str, ...]:
    """What is said of a model that reads images and would hear as well."""
    if vision is None or audio_text_class(config) is None:
        return ()
    return ("It reads images and texts. It also hears, which is not exported: an artifact reads one of both.",)


def _provenance(place: FolderPlace, contents: FolderContents, origin: Mapping[str, Any]) -> dict[str, Any]:
    names = (
        "config.json",
        "generation_config.json",
        "chat_template.jinja",
        "merges.txt",
        *TOKENIZER_FILES,
        *PROCESSOR_FILES,
    )
    files = [*place.files, *(place.folder / name for name in names if (place.folder / name).is_file())]
    default = {"kind": "hf-folder", "name": str(place.checkpoint), "revision": None}
    licence = _read_licence(place.folder)
    record = record_origin({**default, **origin}, licence=licence, dtypes=set(contents.dtypes), files=files)
    return {**record, **contents.record(place)}


def _place_of_model(folder: Path, described: EmbeddingDescription | Reranking | None) -> Path:
    if described is None:
        return folder
    return described.folder if isinstance(described, Reranking) else described.encoder


def _with_head(
    source: Source, contents: FolderContents, *, outline: bool = False, allow_pickle: bool = False
) -> Source:
    """The source of an embedding model, whose vectors come from behind its encoder, or of a decoder that scores.

    Any other source is given back as it is.
    """
    head, scored = contents.head, contents.scored
    if scored:
        from jisu.exporter.sources.reranking.scorer import AnswerScorer

        scorer = AnswerScorer(source.module, scored).eval()
        return replace(source, module=scorer, weight_bytes=weight_bytes(scorer))
    if head.embedding is None:
        return source
    from jisu.exporter.sources.embedding.embedder import build_embedder, hidden_size, outline_embedder

    encoder, described = source.module, head.embedding
    if outline:
        return replace(source, module=outline_embedder(encoder, described, hidden=hidden_size(encoder)))
    embedder = build_embedder(encoder, described, hidden=hidden_size(encoder), allow_pickle=allow_pickle)
    return replace(source, module=embedder, weight_bytes=weight_bytes(embedder))


def _adapter_note(folder: Path) -> list[str]:
    """What is said of an adapter that lies beside a complete model."""
    if not (folder / "adapter_config.json").is_file():
        return []
    return [f"The adapter beside the model is not applied; --adapter {folder} merges it."]


def _weight_files(folder: Path, *, allow_pickle: bool, needed: bool = True) -> tuple[list[Path], bool]:
    """The weight files and whether they are pickles; also makes sure that config.json lies beside them.

    Args:
        needed: there have to be some.
    """
    try:
        if not any(folder.iterdir()):
            raise InputError(
                f"The checkpoint folder {folder} is empty",
                received="a folder without files",
                allowed="config.json and safetensors weights",
                fix="Download the model into it first.",
            )
    except OSError as error:
        raise InputError(
            f"The checkpoint folder {folder} cannot be read",
            received=error.strerror or error,
            allowed="a folder that may be read",
            fix="Check the path and its permissions.",
        ) from error
    for path in sorted(folder.iterdir()):
        if path.name in _READ or path.name.startswith("chat_template"):
            refuse_placeholder(path)
    files = find_safetensors(folder)
    pickles = [] if files else find_pickles(folder)
    has_config = (folder / "config.json").is_file()
    if not has_config:
        raise InputError(
            f"{folder} has no config.json" + ("" if files or pickles else " and no weights"),
            received=", ".join(sorted(path.name for path in folder.iterdir())[:5]),
            allowed="config.json beside the weights",
            fix="Add the config.json that belongs to the weights, or give a GGUF file by its own path.",
        )
    if not files and not pickles and needed:
        raise InputError(
            f"{folder} has a config.json but no weights",
            received="no weight file",
            allowed="model.safetensors, or several safetensors files with model.safetensors.index.json",
            fix="Download the weights.",
        )
    if pickles and not allow_pickle:
        raise InputError(
            f"The weights in {folder} are pickle files, which can run code",
            received=", ".join(file.name for file in pickles[:5]),
            allowed="safetensors files, or pickle files with --allow-pickle",
            fix="Convert the weights to safetensors, or pass --allow-pickle if you trust their origin.",
        )
    return files or pickles, bool(pickles)


def _read_config(folder: Path) -> Any:
    path = folder / "config.json"
    data = read_json(path)
    refuse_remote_code(data, path)
    from transformers import CONFIG_MAPPING, AutoConfig

    model_type = data.get("model_type")
    if not isinstance(model_type, str) or model_type not in CONFIG_MAPPING:
        import transformers

        near = difflib.get_close_matches(str(model_type), list(CONFIG_MAPPING.keys()), n=3)
        raise InputError(
            f"{path} asks for a model type that transformers {transformers.__version__} does not know",
            received="no model_type" if model_type is None else repr(model_type),
            allowed=f"a model type of transformers{', such as ' + ', '.join(near) if near else ''}",
            fix="Update transformers, or choose another model.",
        )
    for part in (data, *(one for one in data.values() if isinstance(one, dict))):
        check_layer_count(part.get("num_hidden_layers"), path)
    try:
        with quiet_transformers():
            config = AutoConfig.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except Exception as error:
        raise InputError(
            f"{path} is not a valid {model_type} configuration",
            received=reason_of(error),
            allowed=f"a valid configuration of a {model_type} model",
            fix="Download the file again.",
        ) from error
    # Here a checkpoint can name a hub repository whose compiled kernels transformers would fetch and run. How attention
    # and experts are computed is our choice; the setters reach nested configurations as well.
    config._attn_implementation = None
    config._experts_implementation = None
    return config


def _read_licence(folder: Path) -> str | None:
    """The licence that the model card states in its front matter."""
    card = folder / "README.md"
    if not card.is_file():
        return None
    match = _LICENCE.search(card.read_text(encoding="utf-8", errors="replace"))
    return match.group(1).strip() if match else None
