"""A trained model on disk: weights, sizes, vocabulary and preprocessing, so that none is used without the others."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch import Tensor

from examples.text_rnn.prepared_data import TOKENIZER, Preparation, read_preparation, save_preparation
from examples.text_rnn.vocabulary import read_tokenizer
from jisu import InputError
from jisu.networks import Classifier, LanguageModel, ModelSettings

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WEIGHTS, MODEL = "weights.safetensors", "model.json"
Network = LanguageModel | Classifier


@dataclass(frozen=True, kw_only=True)
class TrainedModel:
    """What `train` leaves behind, ready to be evaluated and exported. ``record`` says how it was trained."""

    folder: Path
    module: Network
    tokenizer: Tokenizer
    preparation: Preparation
    record: dict[str, Any]


def build_module(settings: ModelSettings, preparation: Preparation) -> Network:
    """An untrained network for a task; its weights follow from torch's random numbers."""
    if preparation.task == "generate":
        return LanguageModel(settings)
    return Classifier(settings, preparation.labels)


def write_model(
    folder: Path,
    weights: dict[str, Tensor],
    *,
    settings: ModelSettings,
    data: Path,
    preparation: Preparation,
    record: dict[str, Any],
) -> None:
    """Write the folder's files; `model.json` comes last, so that a folder with it is complete."""
    from safetensors.torch import save_file

    (folder / TOKENIZER).write_bytes((data / TOKENIZER).read_bytes())
    save_preparation(folder, preparation)
    save_file({name: tensor.contiguous() for name, tensor in weights.items()}, folder / WEIGHTS)
    described = {"settings": settings.to_dict(), "vocabulary_sha256": vocabulary_sha256(folder), "training": record}
    partial = folder / f"{MODEL}.partial"
    partial.write_text(json.dumps(described, ensure_ascii=False, indent=2) + "\n", encoding="utf-8")
    partial.replace(folder / MODEL)


def read_model(folder: Path) -> TrainedModel:
    """Open what `write_model` wrote.

    Raises:
        InputError: no finished model, a vocabulary that is not the model's, or weights of other sizes.
    """
    from safetensors import SafetensorError
    from safetensors.torch import load_file

    try:
        described = json.loads((folder / MODEL).read_text(encoding="utf-8"))
        sizes, sha256, record = described["settings"], described["vocabulary_sha256"], described["training"]
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"{folder} holds no trained model",
            received=f"{MODEL}: {getattr(error, 'strerror', None) or error}",
            allowed="a folder whose training has ended",
            fix="Run `python -m examples.text_rnn train` first, with --resume if it was interrupted.",
        ) from error
    settings, preparation = ModelSettings.from_dict(sizes), read_preparation(folder)
    tokenizer = read_tokenizer(folder / TOKENIZER)
    if tokenizer.get_vocab_size() != settings.vocab_size or vocabulary_sha256(folder) != sha256:
        raise InputError(
            f"The vocabulary in {folder} is not the one that the model was trained with",
            received=f"{tokenizer.get_vocab_size()} words, SHA-256 {vocabulary_sha256(folder)[:12]}",
            allowed=f"{settings.vocab_size} words, SHA-256 {str(sha256)[:12]}",
            fix=f"Put back the {TOKENIZER} of its training data, or train again.",
        )
    module = build_module(settings, preparation)
    try:
        module.load_state_dict(load_file(folder / WEIGHTS))
    except (OSError, RuntimeError, SafetensorError) as error:
        raise InputError(
            f"The weights in {folder} cannot be used",
            received=str(error).splitlines()[-1].strip(),
            allowed="the weights that this model was trained to",
            fix="Train again.",
        ) from error
    return TrainedModel(
        folder=folder, module=module.eval(), tokenizer=tokenizer, preparation=preparation, record=record
    )


def vocabulary_sha256(folder: Path) -> str:
    """The SHA-256 of a folder's tokenizer.json."""
    return hashlib.sha256((folder / TOKENIZER).read_bytes()).hexdigest()


def check_same_vocabulary(model: TrainedModel, folder: Path) -> None:
    """Raise InputError when the data or the engine in a folder has other words than the model."""
    actual = read_tokenizer(folder / TOKENIZER).get_vocab()
    expected = model.tokenizer.get_vocab()
    if actual != expected:
        differing = sorted(word for word in {*actual, *expected} if actual.get(word) != expected.get(word))
        raise InputError(
            f"{folder} does not belong to the model in {model.folder}: their vocabularies differ",
            received=f"{len(actual)} words, among them {', '.join(map(repr, differing[:3]))} with another id or none",
            allowed=f"the {len(expected)} words of the model",
            fix="Name what was prepared for this model or exported from it.",
        )
