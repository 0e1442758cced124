"""What a folder states besides the numbers of its weights: each statement is read, judged and accounted for."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import MODEL_KINDS, SPEECH
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.config_keys import account_for_config
from jisu.exporter.sources.embedding.lower_texts import lower_texts
from jisu.exporter.sources.facts import check_token_ids, vocab_size
from jisu.exporter.sources.generation import account_for_generation, notes_on_settings, read_generation_config
from jisu.exporter.sources.half_width import common_half, widens_in_calls
from jisu.exporter.sources.heads import Head
from jisu.exporter.sources.jsonfile import read_json
from jisu.exporter.sources.model import build_empty, check_stored
from jisu.exporter.sources.plausible import check_config
from jisu.exporter.sources.quantized import open_quantized, read_quantized
from jisu.exporter.sources.speech import account_for_features, read_audio
from jisu.exporter.sources.stored_names import StoredName, match_names
from jisu.exporter.sources.stored_tensors import account_for_tensors, leave_out, take_off_prefix
from jisu.exporter.sources.tokenizer import check_template, load_folder_tokenizer, notes_on_rows
from jisu.exporter.sources.tokenizer_rules import follow_stated_rules
from jisu.exporter.sources.weight_files import account_for_files

if TYPE_CHECKING:
    import torch

    from jisu.exporter.sources.audio import AudioSource
    from jisu.exporter.sources.quantized.declaration import Declaration
    from jisu.exporter.sources.quantized.reading import Quantization
    from jisu.exporter.sources.stored_weights import StoredWeights

# In the spelling of safetensors and in torch's.
_INTEGER = re.compile(r"u?int|bool|[IU]\d+$|BOOL")


@dataclass(frozen=True, kw_only=True)
class FolderPlace:
    """Where a model lies.

    Attributes:
        checkpoint: as the user names it.
        folder: of the model; another one where the checkpoint is a pipeline of modules.
        files: of the weights, pickles or safetensors.
        options: of the user's that the provenance records.
    """

    checkpoint: Path
    folder: Path
    files: tuple[Path, ...]
    pickled: bool
    options: Mapping[str, Any]


@dataclass(frozen=True, kw_only=True)
class FolderContents:
    """What was read of a folder, its weights still closed.

    Attributes:
        head: what the model is for.
        empty: the model on the meta device.
        stored: its tensors, those of quantized weights in plain float32.
        dtypes: in which they are stored.
        matches: what each stored name becomes.
        quantization: what was quantized.
        open_quantized: opens the integers again; None where there are none.
        scored: tokens that a score is read from.
        notes: for whoever exports.
    """

    config: Any
    head: Head
    empty: Any
    account: Account
    stored: StoredWeights
    dtypes: frozenset[str]
    matches: Mapping[str, StoredName]
    quantization: Quantization
    open_quantized: Callable[..., Any] | None
    tokenizer: Any | None
    generation: Any | None
    audio: AudioSource | None
    scored: tuple[int, ...]
    notes: tuple[str, ...]

    def half(self) -> torch.dtype | None:
        """The dtype that the weights may stay in, see `exporter.sources.half_width`; None where float32 is needed."""
        if self.head.kind != MODEL_KINDS[0] or self.quantization.weights or not widens_in_calls(self.empty):
            return None
        return common_half(self.stored.dtypes, self.stored.shapes)

    def record(self, place: FolderPlace) -> dict[str, Any]:
        """What the provenance says beside where it came from."""
        quantized = {"quantization": dict(self.quantization.record)} if self.quantization.record else {}
        return {**quantized, **place.options}


def read_contents(
    place: FolderPlace,
    config: Any,
    declared: Declaration,
    head: Head,
    stored: StoredWeights,
    account: Account,
    *,
    weightless: bool,
) -> FolderContents:
    """Read everything but the numbers.

    Args:
        config: of transformers, without its quantization.
        declared: what the folder says of its quantization.
        account: empty but for the patterns of what is left out.
        weightless: the weights may be missing altogether.

    Raises:
        InputError: something that is missing, contradicts something else, or is not understood.
    """
    folder = place.folder
    if place.files:
        account = account_for_files(account, folder, list(place.files), stored.shapes.keys(), pickled=place.pickled)
    dtypes = frozenset(stored.dtypes.values())
    account, stored = leave_out(account, stored)
    has_weights = bool(stored.shapes) or not weightless
    if has_weights:
        check_config(config, folder, stored=len(stored.shapes))
    empty = build_empty(head.model_class, config, folder)
    account, stored = take_off_prefix(account, stored, empty)
    account, stored, quantization = read_quantized(account, stored, declared, empty, folder)
    matches = match_names(empty, stored.shapes)
    # A broken or foreign tokenizer is found in a second; the weights take longer.
    account, tokenizer, notes = _read_tokenizer(folder, config, head, empty, account)
    head = head.with_prompt(tokenizer)
    scored = head.answer_tokens(tokenizer, rows=vocab_size(empty))
    if head.prompt is not None and tokenizer is not None:
        tokenizer.chat_template = None  # which has done its work: the prompt is data
    elif tokenizer is not None:
        check_template(tokenizer, folder)
    generation = read_generation_config(folder)
    audio = None if head.kind != SPEECH else read_audio(folder, config, empty, generation, tokenizer)
    check_token_ids(_stated(folder), vocab_size(empty), folder)
    if has_weights:
        integers = {name for name, dtype in stored.dtypes.items() if _INTEGER.match(dtype)}
        check_stored(empty, stored.shapes, matches, folder, integers=integers)
    as_stored = {name: match for name, match in matches.items() if name not in quantization.weights}
    account = account_for_tensors(account, empty, as_stored, stored.dtypes, config=config)
    account = account_for_config(account, read_json(folder / "config.json"), config, empty)
    if head.generates:
        account = account_for_generation(account, folder, hears=audio is not None)
    if audio is not None or head.reads_recordings:
        account = account_for_features(account, folder)
    account.refuse(folder)
    reopen = partial(open_quantized, folder, list(place.files), head.model_class, config, declared)
    return FolderContents(
        config=config,
        head=head,
        empty=empty,
        account=account,
        stored=stored,
        dtypes=dtypes,
        matches=matches,
        quantization=quantization,
        open_quantized=partial(reopen, pickled=place.pickled, ignore=account.ignore) if quantization.weights else None,
        tokenizer=tokenizer,
        generation=generation,
        audio=audio,
        scored=scored,
        notes=(*notes, *notes_on_settings(generation, rows=vocab_size(empty))),
    )


def _read_tokenizer(
    folder: Path, config: Any, head: Head, empty: Any, account: Account
) -> tuple[Account, Any | None, list[str]]:
    """(the account with its rules, a tokenizer, what is said of its rows); none where a model has letters instead."""
    letters = head.labels_frames and not (folder / "tokenizer.json").is_file()
    tokenizer = None if letters else load_folder_tokenizer(folder, config)
    if tokenizer is None:
        return account, None, []
    account, tokenizer = follow_stated_rules(account, tokenizer, folder)
    if head.embedding is not None and head.embedding.lowers:
        lower_texts(tokenizer)
    return account, tokenizer, [*notes_on_rows(tokenizer, vocab_size(empty), folder), *head.notes_on_length(empty)]


def _stated(folder: Path) -> list[dict[str, Any]]:
    """The objects in which a folder may name special tokens."""
    records = [
        read_json(folder / name) for name in ("config.json", "generation_config.json") if (folder / name).is_file()
    ]
    return [part for record in records for part in (record, record.get("text_config")) if isinstance(part, dict)]
