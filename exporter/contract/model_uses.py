"""What an artifact of each kind is called and used with, and the errors for whoever uses it as another kind."""

from __future__ import annotations

from dataclasses import dataclass

from jisu.exporter.contract.artifact import (
    AUDIO_TEXT,
    CLASSIFICATION,
    EMBEDDING,
    IMAGE_TEXT,
    SPEECH,
    TEXT_TO_TEXT,
    Artifact,
    ModelKind,
)
from jisu.exporter.contract.errors import InputError


@dataclass(frozen=True, kw_only=True)
class ModelUse:
    """``name`` is what such a model is called, ``command`` and ``method`` what it is run with."""

    name: str
    command: str
    method: str


MODEL_USES: dict[ModelKind, ModelUse] = {
    "text-generation": ModelUse(name="a model that generates text", command="generate", method="generate"),
    TEXT_TO_TEXT: ModelUse(name="a model that generates text", command="generate", method="generate"),
    IMAGE_TEXT: ModelUse(name="a model that reads images", command="generate", method="generate"),
    AUDIO_TEXT: ModelUse(name="a model that reads recordings and texts", command="generate", method="generate"),
    CLASSIFICATION: ModelUse(name="a classifier", command="classify", method="classify"),
    EMBEDDING: ModelUse(name="an embedding model", command="embed", method="embed"),
    "token-classification": ModelUse(name="a tagger", command="tag", method="tag"),
    "fill-mask": ModelUse(name="a masked language model", command="fill", method="fill"),
    "question-answering": ModelUse(name="a model that finds answers", command="answer", method="answer"),
    SPEECH: ModelUse(name="a model that hears", command="transcribe", method="transcribe"),
}


def does_not_generate(artifact: Artifact) -> InputError:
    """The error for whoever wants text of an artifact that gives none."""
    kind = artifact.manifest.model_kind
    use = MODEL_USES[kind]
    return InputError(
        f"{artifact.folder} is {use.name} and does not generate text",
        received=f"an artifact for {kind}",
        allowed="an artifact for text generation",
        fix=f"Use it with `jisu {use.command}`, or Engine.{use.method}.",
    )


def not_of_kind(artifact: Artifact, kind: ModelKind) -> InputError:
    """The error for whoever wants of an artifact what only models of another kind give."""
    use = MODEL_USES[artifact.manifest.model_kind]
    return InputError(
        f"{artifact.folder} is not {MODEL_USES[kind].name}",
        received=f"an artifact for {artifact.manifest.model_kind}",
        allowed=f"an artifact for {kind}",
        fix=f"Use it with `jisu {use.command}`, or Engine.{use.method}.",
    )
