"""Loads a Hugging Face folder. Cheap checks come first: configuration, then tables of contents, then the weights."""

from __future__ import annotations

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import SPEECH
from jisu.exporter.contract.errors import InputError, JisuError
from jisu.exporter.contract.placeholders import refuse_placeholder
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.config_keys import account_for_config
from jisu.exporter.sources.derived_tensors import check_derived
from jisu.exporter.sources.embedding.description import EmbeddingDescription
from jisu.exporter.sources.embedding.lower_texts import lower_texts
from jisu.exporter.sources.facts import (
    check_token_ids,
    vocab_size,
    weight_bytes,
)
from jisu.exporter.sources.generation import account_for_generation, check_generation, read_generation_config
from jisu.exporter.sources.heads import Head, choose_head, described_use
from jisu.exporter.sources.image_processor import PROCESSOR_FILES
from jisu.exporter.sources.image_text import continues_texts, vision_source
from jisu.exporter.sources.jsonfile import read_json, refuse_remote_code
from jisu.exporter.sources.linear_layers import use_linear_layers
from jisu.exporter.sources.model import (
    build_empty,
    check_stored,
    load_weights,
)
from jisu.exporter.sources.outline import outline_source
from jisu.exporter.sources.paged_weights import moving_into, paged_weights
from jisu.exporter.sources.plausible import check_config, check_layer_count
from jisu.exporter.sources.provenance import record_origin
from jisu.exporter.sources.quantized import forget_quantization, open_quantized, read_declaration, read_quantized
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.reason import reason_of
from jisu.exporter.sources.reranking.description import Reranking
from jisu.exporter.sources.reranking.options import RerankOptions
from jisu.exporter.sources.safetensors_files import find_pickles, find_safetensors
from jisu.exporter.sources.source import Source
from jisu.exporter.sources.speech import account_for_features, read_audio
from jisu.exporter.sources.stored_names import match_names
from jisu.exporter.sources.stored_tensors import account_for_tensors, leave_out, refuse_unexpected, take_off_prefix
from jisu.exporter.sources.stored_weights import open_weights
from jisu.exporter.sources.text_part import text_part
from jisu.exporter.sources.tokenizer import TOKENIZER_FILES, check_template, load_folder_tokenizer, notes_on_rows
from jisu.exporter.sources.tokenizer_rules import follow_stated_rules
from jisu.exporter.sources.weight_files import account_for_files

# In the spelling of safetensors and in torch's.
_INTEGER = re.compile(r"u?int|bool|[IU]\d+$|BOOL")
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

    Raises:
        InputError: see `exporter.sources.load_source`.
    """
    described = described_use(folder)
    checkpoint, folder = folder, _place_of_model(folder, described)
    files, pickled = _weight_files(folder, allow_pickle=allow_pickle, needed=not outline)
    config = _read_config(folder)
    declared = read_declaration(folder)
    # What is loaded has plain weights, whatever they are made of.
    forget_quantization(config)
    head = choose_head(config, folder, described=described, pooling=pooling, reranking=reranking, images=images)
    model_class = head.model_class
    account = Account(ignore=tuple(ignore_weights))
    with open_weights(files, pickled=pickled) as stored:
        if files:
            account = account_for_files(account, folder, files, stored.shapes.keys(), pickled=pickled)
        dtypes = set(stored.dtypes.values())
        account, stored = leave_out(account, stored)
        if stored.shapes or not outline:
            check_config(config, folder, stored=len(stored.shapes))
        empty = build_empty(model_class, config, folder)
        account, stored = take_off_prefix(account, stored, empty)
        account, stored, quantization = read_quantized(account, stored, declared, empty, folder)
        matches = match_names(empty, stored.shapes)
        # A broken or foreign tokenizer is found in a second; the weights take longer.
        row_notes: list[str] = []
        letters = head.labels_frames and not (folder / "tokenizer.json").is_file()
        tokenizer = None if letters else load_folder_tokenizer(folder, config)
        if tokenizer is not None:
            account, tokenizer = follow_stated_rules(account, tokenizer, folder)
            if head.embedding is not None and head.embedding.lowers:
                lower_texts(tokenizer)
            row_notes = [*notes_on_rows(tokenizer, vocab_size(empty), folder), *head.notes_on_length(empty)]
        head = head.with_prompt(tokenizer)
        scored = head.answer_tokens(tokenizer, rows=vocab_size(empty))
        if head.prompt is not None and tokenizer is not None:
            tokenizer.chat_template = None  # which has done its work: the prompt is data
        elif tokenizer is not None:
            check_template(tokenizer, folder)
        generation = read_generation_config(folder)
        audio = None if head.kind != SPEECH else read_audio(folder, config, empty, generation, tokenizer)
        check_token_ids(_stated(folder), vocab_size(empty), folder)
        integers = {name for name, dtype in stored.dtypes.items() if _INTEGER.match(dtype)}
        if stored.shapes or not outline:
            check_stored(empty, stored.shapes, matches, folder, integers=integers)
        as_stored = {name: match for name, match in matches.items() if name not in quantization.weights}
        account = account_for_tensors(account, empty, as_stored, stored.dtypes, config=config)
        account = account_for_config(account, read_json(folder / "config.json"), config, empty)
        if head.generates:
            account = account_for_generation(account, folder, hears=audio is not None)
        if audio is not None:
            account = account_for_features(account, folder)
        account.refuse(folder)
        record: dict[str, Any] = {"quantization": dict(quantization.record)} if quantization.record else {}
        record |= {} if pooling is None else {"pooling": pooling}
        record |= {} if reranking is None else {"reranking": reranking.to_record()}
        again = None
        if quantization.weights:
            again = partial(
                open_quantized, folder, files, model_class, config, declared, pickled=pickled, ignore=account.ignore
            )
        if outline:
            if generation is not None:
                empty.generation_config = generation
            facts = head.describe(empty, tokenizer, folder)
            if head.generates:
                check_generation(empty.generation_config, facts, folder)
            origin = {"kind": "hf-folder", "name": str(checkpoint), **record}
            text = text_part(empty) if head.reads_images else empty
            source = outline_source(text, tokenizer, origin, model_kind=head.kind, facts=facts, account=account)
            return replace(_with_head(source, head, scored, outline=True), open_quantized=again, audio=audio)
        paged = paged_weights(empty, scratch)
        del empty
        with moving_into(paged):
            weights = stored.weights if paged is None else paged.lazily(stored.weights)
            model, unexpected = load_weights(model_class, config, weights, folder)
            account = check_derived(account, model, stored.weights, matches)
            account = refuse_unexpected(account, unexpected, matches)
            account.refuse(folder)
            use_linear_layers(model)
    if generation is not None:
        model.generation_config = generation
    names = (
        "config.json",
        "generation_config.json",
        "chat_template.jinja",
        "merges.txt",
        *TOKENIZER_FILES,
        *PROCESSOR_FILES,
    )
    recorded = [*files, *(folder / name for name in names if (folder / name).is_file())]
    default = {"kind": "hf-folder", "name": str(checkpoint), "revision": None}
    facts = head.describe(model, tokenizer, folder)
    if head.generates:
        check_generation(model.generation_config, facts, folder)
    vision = None
    if head.reads_images:
        try:
            vision = vision_source(model, tokenizer, folder)
        except JisuError as reason:
            if not continues_texts(config):
                raise
            del model
            try:
                source = load_folder(
                    checkpoint,
                    allow_pickle=allow_pickle,
                    ignore_weights=ignore_weights,
                    origin=origin,
                    scratch=scratch,
                    images=False,
                )
            except JisuError as other:
                raise reason from other  # what it is refused for; that its class for texts fails as well says less
            return replace(source, notes=(f"It reads texts alone, no images. {reason}", *source.notes))
    source = Source(
        module=model if vision is None else vision.text_part(),
        model=facts,
        model_kind=head.kind,
        tokenizer=tokenizer,
        provenance={
            **record_origin(
                {**default, **(origin or {})},
                licence=_read_licence(folder),
                dtypes=dtypes,
                files=recorded,
            ),
            **record,
        },
        account=account,
        audio=audio,
        open_quantized=again,
        paged=paged,
        weight_bytes=weight_bytes(model),
        notes=(*stored.notes, *row_notes, *_adapter_note(folder)),
        vision=vision,
    )
    return _with_head(source, head, scored, allow_pickle=allow_pickle)


def _place_of_model(folder: Path, described: EmbeddingDescription | Reranking | None) -> Path:
    if described is None:
        return folder
    return described.folder if isinstance(described, Reranking) else described.encoder


def _with_head(
    source: Source, head: Head, scored: tuple[int, ...], *, outline: bool = False, allow_pickle: bool = False
) -> Source:
    """The source of an embedding model, whose vectors come from behind its encoder, or of a decoder that scores.

    Args:
        scored: the tokens that a score is read from. Any other source is given back as it is.
    """
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


def _stated(folder: Path) -> list[dict[str, Any]]:
    """The objects in which a folder may name special tokens."""
    records = [
        read_json(folder / name) for name in ("config.json", "generation_config.json") if (folder / name).is_file()
    ]
    return [part for record in records for part in (record, record.get("text_config")) if isinstance(part, dict)]


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
