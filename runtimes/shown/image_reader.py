"""Prompts with images: which tokens they have, and what their image tokens read.

It knows the artifact's settings for images, its texts and its vision graph, and runs nothing else.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.artifact import IMAGES, Artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.image_prompt import ImageBackend, ImagePrompt, RecordingBackend
from jisu.exporter.contract.image_settings import ImageSettings, read_image_settings
from jisu.runtimes.images.marks import marked_text
from jisu.runtimes.images.positions import axis_shifts
from jisu.runtimes.images.preparation import Prepared
from jisu.runtimes.images.reading import read_image
from jisu.runtimes.images.ways import PREPARATIONS, prepare_image
from jisu.runtimes.shown.marked_prompts import IMAGE_WORDS, MarkedPrompts, PromptTexts, listed


class ImageReader:
    """Reads the images of prompts for one artifact.

    Args:
        backend: has the vision graph.
        text: tokenizer and chat template.

    Raises:
        InputError: the artifact does not say how its images are prepared.
    """

    def __init__(self, artifact: Artifact, backend: ImageBackend, text: PromptTexts) -> None:
        self.backend = backend
        self.settings: ImageSettings = read_image_settings(artifact.folder / IMAGES)
        if self.settings.preparation not in PREPARATIONS:
            raise InputError(
                f"{artifact.folder} has images prepared in a way that this version does not know",
                received=self.settings.preparation,
                allowed=", ".join(PREPARATIONS),
                fix="Update jisu, or export the model again.",
            )
        self._marked = MarkedPrompts(
            text,
            IMAGE_WORDS,
            mark=self.settings.mark,
            token=self.settings.image_token,
            layout=self.settings.layout,
        )

    def prompt(self, text: str, images: Sequence[Any], *, chat: bool | None) -> ImagePrompt:
        """A prompt with images: its mark for each is in the text, or comes before it in their order.

        Raises:
            InputError: an image that cannot be read, or another number of images than the text has marks.
        """
        several = listed(images)
        return self.expanded(self._marked.ids(text, len(several), chat=chat), several)

    def expanded(self, ids: Sequence[int], images: Sequence[Any]) -> ImagePrompt:
        """A prompt of token ids in which each mark stands for one of the images, in their order."""
        self._marked.check_count(ids, len(images))
        prepared = [self.prepared(one, name=self._marked.name_of(n, len(images))) for n, one in enumerate(images)]
        pieces = []
        for one in prepared:
            rows = self._features_of(one)
            pieces.append((self._marked.tokens(marked_text(one, len(rows), self.settings.marks), len(rows)), rows))
        prompt = self._marked.expanded(ids, pieces)
        shown = prompt.index > 0
        if self.settings.merge is not None:
            shifts, after = axis_shifts(shown, prepared)
            prompt = replace(prompt, shifts=shifts, shift_after=after)
        if (numbers := self.settings.types) is not None:
            types = np.where(shown, numbers["image"], numbers["text"]).astype(np.int64)
            prompt = replace(prompt, types=types)
        return prompt

    def prepared(self, image: Any, *, name: str) -> Prepared:
        """An image as the vision graph reads it; ``name`` is its own in an error."""
        return prepare_image(read_image(image, name=name), self.settings)

    def features(self, image: Any) -> npt.NDArray[np.float32]:
        """Rows of features of an image, in the order of the prompt, float32 [rows, features]."""
        return self._features_of(self.prepared(image, name="The image"))

    def _features_of(self, prepared: Prepared) -> npt.NDArray[np.float32]:
        rows = self.backend.read_image(prepared.inputs)
        return rows if prepared.arrange is None else rows[prepared.arrange(len(rows))]

    def check_without(self, ids: Sequence[int]) -> None:
        """Raise InputError for a prompt that has a mark of an image and none to read."""
        self._marked.check_without(ids)


class WithImages:
    """A backend for prompts whose images or recordings are known: each state that it makes reads them.

    Args:
        backend: runs the model; it is not closed with this.
        prompts: of the rows of a batch, or of each group of as many rows, as beams are.
    """

    def __init__(self, backend: ImageBackend | RecordingBackend, prompts: Sequence[ImagePrompt]) -> None:
        self.name, self.vocab_size, self.max_positions = backend.name, backend.vocab_size, backend.max_positions
        self._backend, self._prompts = backend, prompts

    def new_state(self, batch: int, capacity: int) -> Any:
        """An empty state whose rows read what the prompts show."""
        state = self._backend.new_state(batch, capacity)
        copies = batch // len(self._prompts)
        self._backend.attach_images(state, [prompt for prompt in self._prompts for _ in range(copies)])
        return state

    def forward(self, token_ids: Any, state: Any, **options: Any) -> Any:
        """As the backend's."""
        return self._backend.forward(token_ids, state, **options)

    def close(self) -> None:
        """Nothing: the backend goes on."""
