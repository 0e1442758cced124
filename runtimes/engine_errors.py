"""What an engine answers when it is asked for something that its model or its artifact does not have."""

from __future__ import annotations

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.naming import shown


def no_scores(artifact: Artifact) -> InputError:
    return InputError(
        f"The artifact {artifact.folder} turns one text into another, and cannot score a text without its source",
        received="score",
        allowed="generate, stream and generate_ids",
        fix="Compare the texts that it generates.",
    )


def no_conversation(artifact: Artifact) -> InputError:
    return InputError(
        f"The artifact {artifact.folder} turns one text into another and holds no conversation",
        received="chat messages",
        allowed="a text",
        fix="Give the text itself: jisu generate, or Engine.generate without chat.",
    )


def no_chat_template(artifact: Artifact) -> InputError:
    return InputError(
        f"The artifact {artifact.folder} has no chat template",
        received="chat messages",
        allowed="a model with a chat template",
        fix="Continue a text with it instead: jisu generate, or Engine.generate without chat.",
    )


def no_tokenizer(artifact: Artifact) -> InputError:
    return InputError(
        f"The artifact {artifact.folder} has no tokenizer",
        received="text",
        allowed="token ids, from Python: Engine.generate_ids and Engine.score",
        fix="Export the model with its tokenizer.",
    )


def not_copied() -> InputError:
    """Neither a pickle nor a copy."""
    return InputError(
        "This engine can be neither pickled nor copied",
        received="one with a module or a backend that is only in this process",
        allowed="one that load opened from an artifact, and from a checkpoint by its path",
        fix="Load the artifact where it is needed.",
    )


def not_to_score(value: object) -> InputError:
    return InputError(
        "This cannot be scored",
        received=shown(value),
        allowed="a text, a list of token ids, or a list of one of these",
        fix="Give several sequences as a list of lists.",
    )


def not_token_ids(value: object) -> InputError:
    return InputError(
        "These are not token ids", received=shown(value), allowed="a list of whole numbers", fix="Give one list."
    )


def reads_none(artifact: Artifact, *, what: str, kind: str) -> InputError:
    return InputError(
        f"{artifact.folder} reads no {what} here",
        received=what,
        allowed=f"an artifact of a model for {kind}, on the backend ort-cpu",
        fix=f"Leave the {what} out, or export a model that reads them.",
    )


def one_kind_beside_texts() -> InputError:
    return InputError(
        "A prompt has images or recordings, not both",
        received="images and audios",
        allowed="what the model reads",
        fix="Leave one out.",
    )


def beside_one_prompt(prompts: int) -> InputError:
    return InputError(
        "Images and recordings belong to one prompt",
        received=f"some with {prompts} prompts",
        allowed="one prompt with its images, or with its recordings",
        fix="Ask once for each prompt.",
    )


def beside_texts_stay() -> InputError:
    return InputError(
        "Turns with images or recordings cannot be left out",
        received="images or audios, and drop_oldest",
        allowed="one of them",
        fix="Leave out the oldest turns, with what belongs to them, yourself.",
    )
