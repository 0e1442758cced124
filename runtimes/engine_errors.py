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


def reads_no_images(artifact: Artifact) -> InputError:
    return InputError(
        f"{artifact.folder} reads no images here",
        received="images",
        allowed="an artifact of a model for image-text-to-text, on the backend ort-cpu",
        fix="Leave the images out, or export a model that reads them.",
    )


def images_of_one_prompt(prompts: int) -> InputError:
    return InputError(
        "Images belong to one prompt",
        received=f"images with {prompts} prompts",
        allowed="one prompt with its images",
        fix="Ask once for each prompt.",
    )


def images_stay() -> InputError:
    return InputError(
        "Turns with images cannot be left out",
        received="images and drop_oldest",
        allowed="one of them",
        fix="Leave out the oldest turns, with their images, yourself.",
    )
