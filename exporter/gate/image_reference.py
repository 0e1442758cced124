"""What a model of transformers itself says about prompts with images: its processor's arrays and its own forward."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.reference import stock_attention
from jisu.exporter.sources.image_processor import process_prompt, taken_by
from jisu.exporter.sources.image_text import refusing_misfits
from jisu.exporter.sources.quiet import quiet_transformers

if TYPE_CHECKING:
    from jisu.exporter.sources.image_text import VisionSource

Pictures = Sequence[npt.NDArray[np.uint8]]


class ImageReference:
    """The whole source model, with the processor of its checkpoint."""

    def __init__(self, vision: VisionSource) -> None:
        self._vision = vision
        self._model: Any = vision.model

    def inputs(self, text: str, images: Pictures) -> dict[str, Any]:
        """What the processor makes of a text with marks and its images, uint8 [H, W, 3] each."""
        return process_prompt(self._vision.processor, text, images)

    def token_ids(self, text: str, images: Pictures) -> list[int]:
        """The tokens of such a prompt."""
        ids: list[int] = self.inputs(text, images)["input_ids"][0].tolist()
        return ids

    def types(self, text: str, images: Pictures) -> list[int] | None:
        """The types of these tokens as a runtime counts them; None where tokens have none that matters."""
        sight = self._vision.sight
        if sight is None:
            return None
        made: list[int] = (self.inputs(text, images)[sight.argument][0] - sight.plain).tolist()
        return made

    def logits(self, text: str, images: Pictures, following: Sequence[int]) -> npt.NDArray[np.float32]:
        """Logits at every position of a prompt and the tokens behind it, float32 [T, V], in one call, no cache.

        Raises:
            InputError: the model does not read what its processor makes of these images.
        """
        import torch

        made = self.inputs(text, images)
        more = torch.tensor([list(following)], dtype=torch.int64)
        count = made["input_ids"].shape[1]
        # Tokens behind a prompt see only those before them.
        sight = self._vision.sight
        behind = {"attention_mask": 1} | ({} if sight is None else {sight.argument: sight.plain})
        for name in [name for name, value in made.items() if value.dim() == 2 and value.shape[1] == count]:
            tail = more if name == "input_ids" else torch.full_like(more, behind.get(name, 0))
            made[name] = torch.cat([made[name], tail.to(made[name].dtype)], dim=1)
        arguments = taken_by(self._model, made)
        with (
            quiet_transformers(),
            stock_attention(self._model) as model,
            refusing_misfits(self._vision.processor, self._model),
        ):
            output = model(**arguments, use_cache=False)
        logits: npt.NDArray[np.float32] = output.logits[0].float().numpy()
        return logits
