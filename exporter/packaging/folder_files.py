"""Writes what lies in an artifact's folder beside its graphs: tokenizer, chat template, settings for its runtimes."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Protocol

from jisu.exporter.contract.artifact import ModelFacts
from jisu.exporter.contract.signature import IMAGE_FEATURES, INPUT_IDS, Signature
from jisu.exporter.packaging.genai_config import write_genai_config


class Described(Protocol):
    """The part of a source that is needed here."""

    @property
    def model(self) -> ModelFacts: ...

    def save_tokenizer(self, folder: Path) -> None: ...

    def save_sentence_files(self, folder: Path) -> None: ...

    def generation_settings(self) -> dict[str, Any]: ...


def write_folder_files(folder: Path, source: Described, *, signature: Signature, target: str) -> None:
    """Write the files into a folder; the same source gives the same bytes."""
    source.save_tokenizer(folder)
    if source.model.embedding is not None:
        source.save_sentence_files(folder)
    # onnxruntime-genai would run such a decoder without its images, and knows no frames of sound.
    reads_texts = signature.has_input(INPUT_IDS) and not signature.has_input(IMAGE_FEATURES)
    if target.startswith("ort-") and not signature.encoded and reads_texts:
        write_genai_config(folder, signature, source.model, source.generation_settings())
