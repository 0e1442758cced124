"""What a model of transformers itself says about prompts with images or recordings, prepared by its processor."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.reference import stock_attention
from jisu.exporter.sources.image_processor import taken_by
from jisu.exporter.sources.image_text import refusing_misfits
from jisu.exporter.sources.quiet import quiet_transformers

if TYPE_CHECKING:
    from jisu.exporter.sources.image_sight import Sight

# Images uint8 [H, W, 3], or recordings float32 [samples].
Pieces = Sequence[npt.NDArray[Any]]


class ShownReference:
    """The whole source model, with the processor of its checkpoint.

    Args:
        process: makes tensors by name of a text with marks and what they stand for.
        sight: how the model is told which tokens see each other, where some see later ones.
    """

    def __init__(
        self,
        model: Any,
        processor: Any,
        process: Callable[[str, Pieces], dict[str, Any]],
        sight: Sight | None = None,
    ) -> None:
        self._model, self._processor, self._process, self._sight = model, processor, process, sight

    def token_ids(self, text: str, pieces: Pieces) -> list[int]:
        """The tokens of such a prompt."""
        ids: list[int] = self._process(text, pieces)["input_ids"][0].tolist()
        return ids

    def types(self, text: str, pieces: Pieces) -> list[int] | None:
        """The types of these tokens as a runtime counts them; None where tokens have none that matters."""
        if self._sight is None:
            return None
        made: list[int] = (self._process(text, pieces)[self._sight.argument][0] - self._sight.plain).tolist()
        return made

    def logits(self, text: str, pieces: Pieces, following: Sequence[int]) -> npt.NDArray[np.float32]:
        """Logits at every position of a prompt and the tokens behind it, float32 [T, V], in one call, no cache.

        Raises:
            InputError: the model does not read what its processor makes.
        """
        import torch

        made = self._process(text, pieces)
        more = torch.tensor([list(following)], dtype=torch.int64)
        count = made["input_ids"].shape[1]
        # Tokens behind a prompt see only those before them.
        sight = self._sight
        behind = {"attention_mask": 1} | ({} if sight is None else {sight.argument: sight.plain})
        names = ("input_ids", *behind, "token_type_ids", "mm_token_type_ids")
        for name in [name for name in names if name in made and made[name].shape[1:] == (count,)]:
            tail = more if name == "input_ids" else torch.full_like(more, behind.get(name, 0))
            made[name] = torch.cat([made[name], tail.to(made[name].dtype)], dim=1)
        arguments = taken_by(self._model, made)
        with (
            quiet_transformers(),
            stock_attention(self._model) as model,
            refusing_misfits(self._processor, self._model),
        ):
            output = model(**arguments, use_cache=False)
        logits: npt.NDArray[np.float32] = output.logits[0].float().numpy()
        return logits
