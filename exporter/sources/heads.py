"""What a folder's model is for: the class of transformers that loads it, and the kind of model that this is."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from jisu.exporter.contract.artifact import (
    ANSWERING,
    CLASSIFICATION,
    EMBEDDING,
    FILLING,
    IMAGE_TEXT,
    MODEL_KINDS,
    ONE_PASS_KINDS,
    SPEECH,
    TAGGING,
    TEXT_TO_TEXT,
    Activation,
    EmbeddingFacts,
    ModelFacts,
    ModelKind,
)
from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.classifier import classifier_class, read_activation, read_labels
from jisu.exporter.sources.embedding.description import (
    POOLING_MODES,
    EmbeddingDescription,
    plain_description,
    read_description,
)
from jisu.exporter.sources.embedding.encoder_class import encoder_class, names_encoder
from jisu.exporter.sources.facts import describe_model, describe_speech, describe_text_to_text
from jisu.exporter.sources.image_text import image_text_class
from jisu.exporter.sources.model import decoder_class, text_to_text_class
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.speech import speech_class
from jisu.exporter.sources.token_heads import ENDS, token_head


@dataclass(frozen=True, kw_only=True)
class Head:
    """The use of a model.

    Attributes:
        model_class: of transformers.
        labels: names of the columns of what a model that reads whole texts gives; none where these are words.
        activation: what becomes of a classifier's logits.
        embedding: what follows the encoder of an embedding model.
        labels_frames: whether a model that hears gives each frame a letter, and says no tokens.
    """

    kind: ModelKind
    model_class: Any
    labels: tuple[str, ...] = ()
    activation: Activation = "softmax"
    embedding: EmbeddingDescription | None = None
    labels_frames: bool = False

    @property
    def generates(self) -> bool:
        return self.kind not in ONE_PASS_KINDS and not self.labels_frames

    @property
    def reads_images(self) -> bool:
        return self.kind == IMAGE_TEXT

    def describe(self, model: Any, tokenizer: Any | None, checkpoint: Path) -> ModelFacts:
        """What is recorded of the model; raises InputError when nothing says what its decoder begins with.

        Args:
            model: of `model_class`, on any device.
        """
        if self.kind == TEXT_TO_TEXT:
            return describe_text_to_text(model, tokenizer, checkpoint)
        if self.kind == SPEECH:
            return describe_speech(model, tokenizer, checkpoint)
        with quiet_transformers():  # some configurations warn of names that they still have
            facts = replace(describe_model(model, tokenizer), labels=self.labels, activation=self.activation)
        if self.kind == FILLING:
            facts = replace(facts, mask=mask_token(tokenizer, facts.vocab_size))
        if self.embedding is None:
            return facts
        return _describe_embedding(facts, self.embedding, model, tokenizer)


def choose_head(
    config: Any,
    checkpoint: Path,
    *,
    described: EmbeddingDescription | None = None,
    pooling: str | None = None,
    images: bool = True,
) -> Head:
    """The head that the configuration names, or none where vectors are wanted.

    Args:
        described: what the folder says of itself as an embedding model.
        pooling: makes an embedding model of a plain encoder.
        images: read them, where the model does.

    Raises:
        InputError: a model that has no use here, or a pooling where there is none to choose.
    """
    if described is not None or pooling is not None:
        return _embedding_head(config, checkpoint, described, pooling)
    classifier = classifier_class(config)
    if classifier is not None:
        return classifier_head(classifier, config, checkpoint)
    speech = speech_class(config, checkpoint)
    if speech is not None:
        frames = not getattr(config, "is_encoder_decoder", False)
        return Head(kind=SPEECH, model_class=speech, labels_frames=frames)
    text_to_text = text_to_text_class(config)
    if text_to_text is not None:
        return Head(kind=TEXT_TO_TEXT, model_class=text_to_text)
    image_text = image_text_class(config) if images else None
    if image_text is not None:
        return Head(kind=IMAGE_TEXT, model_class=image_text)
    per_token = token_head(config)
    if per_token is not None:
        kind, model_class = per_token
        return Head(kind=kind, model_class=model_class, labels=column_names(kind, config, checkpoint))
    if names_encoder(config):
        raise InputError(
            f"{checkpoint} is an encoder without pooling information",
            received=f"{config.architectures[0]}, and no modules.json",
            allowed=f"--pooling {', '.join(POOLING_MODES)}; or a folder of sentence-transformers",
            fix="Pass the --pooling that the model was trained with; its card says which.",
        )
    return Head(kind=MODEL_KINDS[0], model_class=decoder_class(config, checkpoint))


def classifier_head(model_class: Any, config: Any, checkpoint: Path) -> Head:
    """A classifier with its labels and what its logits mean; raises InputError when either is not understood."""
    labels = read_labels(config, checkpoint)
    activation = read_activation(config, checkpoint, labels=len(labels))
    return Head(kind=CLASSIFICATION, model_class=model_class, labels=labels, activation=activation)


def column_names(kind: ModelKind, config: Any, checkpoint: Path) -> tuple[str, ...]:
    """What a row of a token's numbers is called, column by column; nothing where they are the words."""
    if kind == TAGGING:
        return read_labels(config, checkpoint, least=2)
    return ENDS if kind == ANSWERING else ()


def mask_token(tokenizer: Any | None, rows: int) -> int | None:
    """The token that stands for a word to be found; None without one that the model has a row for."""
    token = getattr(tokenizer, "mask_token_id", None)
    return token if isinstance(token, int) and 0 <= token < rows else None


def described_embedding(folder: Path) -> EmbeddingDescription | None:
    """What a folder of sentence-transformers says; None for any other folder."""
    from jisu.exporter.sources.embedding.description import is_embedding_folder

    return read_description(folder) if is_embedding_folder(folder) else None


def _embedding_head(config: Any, checkpoint: Path, described: EmbeddingDescription | None, pooling: str | None) -> Head:
    if described is not None and pooling is not None:
        raise InputError(
            f"{checkpoint} says itself how it pools",
            received=f"--pooling {pooling}",
            allowed=f"its own: {', '.join(described.pooling)}",
            fix="Leave --pooling out.",
        )
    description = described or plain_description(checkpoint, str(pooling))
    return Head(kind=EMBEDDING, model_class=encoder_class(config, checkpoint), embedding=description)


def _describe_embedding(
    facts: ModelFacts, described: EmbeddingDescription, model: Any, tokenizer: Any | None
) -> ModelFacts:
    from jisu.exporter.sources.embedding.embedder import dimensions_of, hidden_size, outline_embedder

    embedder = outline_embedder(model, described, hidden=hidden_size(model))
    stated = described.longest
    if stated is None:  # as sentence-transformers does it
        stated = getattr(tokenizer, "model_max_length", None)
    limits = [one for one in (facts.max_positions, stated) if isinstance(one, int) and one > 0]
    return replace(
        facts,
        architecture=type(model).__name__,
        max_positions=min(limits, default=None),
        parameters=sum(parameter.numel() for parameter in embedder.parameters()),
        embedding=EmbeddingFacts(
            dimensions=dimensions_of(embedder, hidden=hidden_size(model)),
            normalized=described.normalized,
            pooling=described.pooling,
            prompts=dict(described.prompts),
            default_prompt=described.default_prompt,
            similarity=described.similarity,
        ),
    )
