"""Prompts with images: which tokens they have, and what their image tokens read.

It knows the artifact's settings for images, its texts and its vision graph, and runs nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import IMAGES, Artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.image_prompt import ImageBackend, ImagePrompt
from jisu.exporter.contract.image_settings import ImageSettings, read_image_settings
from jisu.runtimes.generation.prompts import check_prompt, is_listed
from jisu.runtimes.images.marks import laid_out, marked_text
from jisu.runtimes.images.positions import axis_shifts
from jisu.runtimes.images.preparation import Prepared
from jisu.runtimes.images.reading import read_image
from jisu.runtimes.images.ways import PREPARATIONS, prepare_image
from jisu.runtimes.model_text import ModelText


class ImageReader:
    """Reads the images of prompts for one artifact.

    Args:
        backend: has the vision graph.
        text: tokenizer and chat template.

    Raises:
        InputError: the artifact does not say how its images are prepared.
    """

    def __init__(self, artifact: Artifact, backend: ImageBackend, text: ModelText) -> None:
        self.backend, self._text = backend, text
        self.settings: ImageSettings = read_image_settings(artifact.folder / IMAGES)
        if self.settings.preparation not in PREPARATIONS:
            raise InputError(
                f"{artifact.folder} has images prepared in a way that this version does not know",
                received=self.settings.preparation,
                allowed=", ".join(PREPARATIONS),
                fix="Update jisu, or export the model again.",
            )
        self._mark = text.codec.encode(self.settings.mark, special_tokens=False)[-1]

    def prompt(self, text: str, images: Sequence[Any], *, chat: bool | None) -> ImagePrompt:
        """A prompt with images: its mark for each is in the text, or comes before it in their order.

        Raises:
            InputError: an image that cannot be read, or another number of images than the text has marks.
        """
        check_prompt(text)
        listed = images if is_listed(images) and not isinstance(images, np.ndarray) else [images]
        ids = self._with_marks(text, len(listed), chat=chat)
        return self.expanded(ids, listed)

    def expanded(self, ids: Sequence[int], images: Sequence[Any]) -> ImagePrompt:
        """A prompt of token ids in which each mark stands for one of the images, in their order."""
        marks = sum(token == self._mark for token in ids)
        if marks != len(images):
            raise InputError(
                "The prompt has another number of images than marks for them",
                received=f"{marks} times {self.settings.mark} and {len(images)} images",
                allowed="one image for each mark",
                fix="Give as many images, or leave the marks out: they are then put before the text.",
            )
        prepared, features = [], []
        for number, image in enumerate(images):
            prepared.append(self.prepared(image, name="The image" if len(images) == 1 else f"Image {number + 1}"))
            features.append(self._features_of(prepared[-1]))
        token_ids: list[int] = []
        following = iter(zip(prepared, features, strict=True))
        for token in ids:
            token_ids += self._image_ids(*next(following)) if token == self._mark else [token]
        shown = np.array(token_ids) == self.settings.image_token
        index = np.where(shown, np.cumsum(shown), 0).astype(np.int64)
        joined = np.concatenate(features) if features else np.zeros((0, 1), np.float32)
        shifts, after = None, 0
        if self.settings.merge is not None:
            shifts, after = axis_shifts(shown, prepared)
        types = None
        if (numbers := self.settings.types) is not None:
            types = np.where(shown, numbers["image"], numbers["text"]).astype(np.int64)
        return ImagePrompt(
            token_ids=token_ids, features=joined, index=index, shifts=shifts, shift_after=after, types=types
        )

    def prepared(self, image: Any, *, name: str) -> Prepared:
        """An image as the vision graph reads it; ``name`` is its own in an error."""
        return prepare_image(read_image(image, name=name), self.settings)

    def features(self, image: Any) -> npt.NDArray[np.float32]:
        """Rows of features of an image, in the order of the prompt, float32 [rows, features]."""
        return self._features_of(self.prepared(image, name="The image"))

    def _features_of(self, prepared: Prepared) -> npt.NDArray[np.float32]:
        rows = self.backend.read_image(prepared.inputs)
        return rows if prepared.arrange is None else rows[prepared.arrange(len(rows))]

    def check_without_images(self, ids: Sequence[int]) -> None:
        """Raise InputError for a prompt that has a mark of an image and none to read."""
        if self._mark in ids or self.settings.image_token in ids:
            raise InputError(
                "The prompt has a mark for an image, and no image is given",
                received=self.settings.mark,
                allowed="images for all marks",
                fix="Give the image: --image FILE, or generate(prompt, images=[...]).",
            )

    def _with_marks(self, text: str, images: int, *, chat: bool | None) -> list[int]:
        layout = self.settings.layout
        chat = self._text.has_chat_template and layout is None if chat is None else chat
        if not chat:
            whole = text if self.settings.mark in text else self.settings.mark * images + text
            if layout is None:
                return self._text.encode(whole)
            # Its own special tokens are in the layout.
            return self._text.codec.encode(laid_out(whole, self.settings.mark, layout), special_tokens=False)
        parts = [*({"type": "image"} for _ in range(images)), {"type": "text", "text": text}]
        return self._text.message_ids([{"role": "user", "content": parts}])

    def _image_ids(self, prepared: Prepared, features: npt.NDArray[np.float32]) -> list[int]:
        """The tokens in the place of a mark."""
        text = marked_text(prepared, len(features), self.settings.marks)
        ids = self._text.codec.encode(text, special_tokens=False)
        tokens = ids.count(self.settings.image_token)
        if tokens != len(features):
            raise InputError(
                "The image has another number of tokens than of rows of features",
                received=f"{tokens} tokens and {len(features)} rows",
                allowed="a token for each row",
                fix="Export the model again; one of its files was replaced.",
            )
        return ids


class WithImages:
    """A backend for prompts whose images are known: each state that it makes reads them.

    Args:
        backend: runs the model; it is not closed with this.
        prompts: of the rows of a batch, or of each group of as many rows, as beams are.
    """

    def __init__(self, backend: ImageBackend, prompts: Sequence[ImagePrompt]) -> None:
        self.name, self.vocab_size, self.max_positions = backend.name, backend.vocab_size, backend.max_positions
        self._backend, self._prompts = backend, prompts

    def new_state(self, batch: int, capacity: int) -> Any:
        """An empty state whose rows read the prompts' images."""
        state = self._backend.new_state(batch, capacity)
        copies = batch // len(self._prompts)
        self._backend.attach_images(state, [prompt for prompt in self._prompts for _ in range(copies)])
        return state

    def forward(self, token_ids: Any, state: Any, **options: Any) -> Any:
        """As the backend's."""
        return self._backend.forward(token_ids, state, **options)

    def close(self) -> None:
        """Nothing: the backend goes on."""
