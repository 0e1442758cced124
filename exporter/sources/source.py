"""A loaded checkpoint: what tracing, calibration and the gate are given. Knows nothing of graphs or of file formats."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from jisu.exporter.contract.artifact import (
    AUDIO_SETTINGS,
    IMAGES,
    MODEL_KINDS,
    ONE_PASS_KINDS,
    PAIR_KINDS,
    RECORDINGS,
    ModelFacts,
    ModelKind,
)
from jisu.exporter.contract.generation_settings import GENERATION_CONFIG
from jisu.exporter.sources.account import Account
from jisu.exporter.sources.generation import carried_settings
from jisu.exporter.sources.token_types import reads_types

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from contextlib import AbstractContextManager

    import torch

    from jisu.exporter.sources.audio import AudioSource
    from jisu.exporter.sources.audio_text import HearingSource
    from jisu.exporter.sources.image_text import VisionSource
    from jisu.exporter.sources.paged_weights import PagedWeights
    from jisu.exporter.sources.quantized.weight import QuantizedWeight

Record = TypeVar("Record")

# Entries of tokenizer_config.json that tell of the machine it was made on, or name code to run.
_PRIVATE_KEYS = (
    "_commit_hash",
    "auto_map",
    "gguf_file",
    "is_local",
    "local_files_only",
    "name_or_path",
    "tokenizer_file",
    "vocab_file",
)


@dataclass(frozen=True, kw_only=True)
class Source:
    """A model ready to be traced, in float32 on the CPU, in eval mode, without gradients, weights tied as it ties them.

    ``tokenizer`` is a transformers fast tokenizer, or None where the checkpoint has none. ``provenance`` is JSON-able.
    ``weight_bytes`` counts each float32 parameter once, in bytes. ``model_kind`` is what the module is for. ``notes``
    are sentences that whoever exports it should read. ``account`` says what became of everything that the checkpoint
    states. ``open_quantized`` opens the stored weights that are quantized once more, by parameter name, for as long as
    its context lasts; None where none is. ``paged`` is the file that the weights of a large model lie in; None where
    they are in memory. ``in_place`` says that its matrices are read where the checkpoint has them, in two bytes a
    number, see `exporter.sources.half_width`, or would be if they were loaded. ``vision`` is what reads images, of a
    model that does; ``module`` is then its part that reads texts; ``hearing`` is the same of a model that reads
    recordings beside texts. ``audio`` is how a model that hears makes its features; None for any other. ``whole`` is
    the model of which ``module`` is the part that reads texts, where no weights were read; None otherwise.
    """

    module: torch.nn.Module
    model: ModelFacts
    tokenizer: Any | None
    provenance: dict[str, Any]
    weight_bytes: int
    model_kind: ModelKind = MODEL_KINDS[0]
    notes: tuple[str, ...] = ()
    account: Account = field(default_factory=Account)
    open_quantized: Callable[[], AbstractContextManager[Mapping[str, QuantizedWeight]]] | None = None
    paged: PagedWeights | None = None
    in_place: bool = False
    vision: VisionSource | None = None
    hearing: HearingSource | None = None
    audio: AudioSource | None = None
    whole: torch.nn.Module | None = None

    @property
    def columns(self) -> int:
        """Numbers in a row of what the module gives: dimensions of a vector, labels, or words."""
        if self.model.embedding is not None:
            return self.model.embedding.dimensions
        return len(self.model.labels) or self.model.vocab_size

    @property
    def takes_types(self) -> bool:
        """Whether the module is told types of tokens: of which text of a pair they are, or which are of a prompt."""
        if self.model.embedding is not None:
            return not self.model.embedding.pools_prompt
        return self.model_kind in PAIR_KINDS and reads_types(self.module, self.tokenizer)

    def put_aside(self, record: Record) -> Record:
        """What was made of a weight, such as its integers: on the disk where the weights are there, too."""
        return record if self.paged is None else self.paged.store_record(record)

    def count_read(self, size: int) -> None:
        """Say that so many bytes of weights were read, outside of a forward; not all of them stay in memory."""
        if self.paged is not None:
            self.paged.count(size)

    def let_go(self) -> None:
        """Give the memory of weights back that have been read, where the file is that holds them."""
        if self.paged is not None:
            self.paged.let_go()

    def save_tokenizer(self, folder: Path) -> None:
        """Write tokenizer.json, tokenizer_config.json, chat_template.jinja and generation_config.json into a folder,
        and images.json of a model that reads images.

        Without a tokenizer only generation_config.json is written, and for what generates nothing not that either. A
        model that hears has audio.json as well. The same source gives the same bytes.
        """
        if self.tokenizer is not None:
            self.tokenizer.save_pretrained(str(folder))
            _clean_tokenizer_config(folder / "tokenizer_config.json")
            _compact(folder / "tokenizer.json")
        if self.vision is not None:
            (folder / IMAGES).write_text(self.vision.settings.to_json(), encoding="utf-8")
        if self.hearing is not None:
            (folder / RECORDINGS).write_text(self.hearing.settings.to_json(), encoding="utf-8")
        if self.audio is not None:
            (folder / AUDIO_SETTINGS).write_text(self.audio.settings.to_json(), encoding="utf-8")
        if self.generates:
            _write_json(folder / GENERATION_CONFIG, self.generation_settings())

    def save_sentence_files(self, folder: Path) -> None:
        """Write what sentence-transformers reads of an embedding model beside its graph and its tokenizer."""
        from jisu.exporter.sources.embedding.sentence_files import write_sentence_files

        module: Any = self.module
        if not hasattr(module, "transformer"):
            return  # that package reads no graph of a table
        write_sentence_files(folder, module, self.model)

    @property
    def generates(self) -> bool:
        """Whether it says one token after the other, as classifiers of texts and of frames do not."""
        frames = self.audio is not None and self.audio.settings.writes == "frames"
        return self.model_kind not in ONE_PASS_KINDS and not frames

    def generation_settings(self) -> dict[str, Any]:
        """What ``generation_config.json`` of an artifact says: the settings of the model, and its special tokens."""
        config: Any = getattr(self.module, "generation_config", None)
        defaults = carried_settings(config, rows=self.model.vocab_size)
        if self.model.bos is not None:
            defaults["bos_token_id"] = self.model.bos
        if self.model.eos:
            defaults["eos_token_id"] = list(self.model.eos)
        if self.model.pad is not None:
            defaults["pad_token_id"] = self.model.pad
        return defaults


def _clean_tokenizer_config(path: Path) -> None:
    config = json.loads(path.read_text(encoding="utf-8"))
    for key in _PRIVATE_KEYS:
        config.pop(key, None)
    # transformers 5 calls the class by a name that no other reader of these files knows; it reads the old one as well.
    if config.get("tokenizer_class") == "TokenizersBackend":
        config["tokenizer_class"] = "PreTrainedTokenizerFast"
        config.pop("backend", None)
    _write_json(path, config)


def _compact(path: Path) -> None:
    """Take the indentation out, which is more than half of the file."""
    stored = json.loads(path.read_text(encoding="utf-8"))
    path.write_text(json.dumps(stored, ensure_ascii=False, separators=(",", ":")), encoding="utf-8")


def _write_json(path: Path, data: dict[str, Any]) -> None:
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
