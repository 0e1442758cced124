"""Whether the tokens of an image see those behind them, and how a model is told which tokens do.

Most decoders let every token see those before it, images included. Others let the tokens of an image, or of the whole
prompt, see each other. Models of transformers make their masks of a type for each token, which the processor gives.
Nothing here knows a model: it is found out by changing the last token of an image, and by trying the types.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.image_processor import process_prompt, taken_by
from jisu.exporter.sources.quiet import quiet_transformers
from jisu.exporter.sources.text_part import text_part

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

_UNSEEN = 1e-4  # sd of the logits, that a token may differ by for one that it does not see
# What transformers calls the type of each token in processors and in models (5.23).
_ARGUMENTS = ("token_type_ids", "mm_token_type_ids")
_TYPES = (0, 1)


@dataclass(frozen=True, kw_only=True)
class Sight:
    """How a model is told which tokens see each other.

    Attributes:
        argument: of its forward, int64 [B, tokens].
        plain: the type of tokens that see only those before them.
        image, text: the types of an image's tokens and of the others of a prompt.
    """

    argument: str
    plain: int
    image: int
    text: int

    @property
    def numbers(self) -> dict[str, int]:
        """The types as a runtime counts them: from that of plain tokens on."""
        return {"image": self.image - self.plain, "text": self.text - self.plain}


def sight_of(vision: Any, image: npt.NDArray[np.uint8]) -> Sight | None:
    """How tokens that see later ones are told to a model; None where there are none.

    Raises:
        InputError: an image's tokens see those behind them, and no types of tokens say so.
    """
    marks = vision.settings.mark
    made = process_prompt(vision.processor, f"A {marks} and {marks} What is it?", [image, image])
    read = taken_by(vision.model, made)
    token = vision.settings.image_token
    if not sees_ahead(vision.model, token, read):
        return None
    name = next((name for name in _ARGUMENTS if name in read), None)
    if name is not None:
        shown = made["input_ids"] == token
        kinds = [sorted(set(read[name][part].tolist())) for part in (shown, ~shown)]
        plain = _plain_type(vision, name)
        if plain is not None and all(len(kind) == 1 for kind in kinds):
            sight = Sight(argument=name, plain=plain, image=kinds[0][0], text=kinds[1][0])
            if not sees_ahead(vision.model, token, {**read, name: read[name] * 0 + plain}):
                return sight
    raise InputError(
        f"{type(vision.model).__name__} lets the tokens of an image see those behind them",
        received="attention in both directions" + ("" if name is None else f", by a rule of {name} that is not known"),
        allowed="tokens that see those before them, or a type of each token that says which see each other",
        fix="Choose another model; attention of this kind is not exported yet.",
    )


def as_plain_text(part: Any, sight: Sight) -> Any:
    """Let what reads texts alone take all their tokens for plain ones, unless it is told their types.

    Without types some models let all tokens of a call see each other (transformers 5.23, where its attention leaves a
    mask out), which no token that follows could.
    """
    import torch

    def plain(module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        ids = options.get("input_ids", inputs[0] if inputs else None)
        ids = options.get("inputs_embeds") if ids is None else ids
        if ids is None or options.get(sight.argument) is not None:
            return None
        types = torch.full(ids.shape[:2], sight.plain, dtype=torch.int64, device=ids.device)
        return inputs, {**options, sight.argument: types}

    # The part is a shallow copy, which shares its hooks with the whole.
    part._forward_pre_hooks = part._forward_pre_hooks.copy()
    part._forward_pre_hooks_with_kwargs = part._forward_pre_hooks_with_kwargs.copy()
    part.register_forward_pre_hook(plain, with_kwargs=True)
    return part


def _plain_type(vision: Any, name: str) -> int | None:
    """The type of tokens of a text that see only those before them."""
    import torch

    ids = torch.arange(8)[None] % vision.model.config.get_text_config().vocab_size
    changed = ids.clone()
    changed[0, -1] += 1
    with torch.inference_mode(), quiet_transformers():
        for kind in _TYPES:
            types = {name: torch.full_like(ids, kind)}
            one, other = (vision.model(input_ids=row, **types, use_cache=False).logits for row in (ids, changed))
            if float((one - other)[:, :-1].abs().max() / one.std()) <= _UNSEEN:
                return kind
    return None


def sees_ahead(model: Any, token: int, arguments: dict[str, Any]) -> bool:
    """Whether a token before the last one of an image or a recording changes with it.

    Args:
        token: the id that stands for a row of its features.
    """
    import torch

    from jisu.exporter.sources.layers import find_layers

    part: Any = text_part(model)
    stack = find_layers(part)
    if stack is None:
        return False
    last = int((arguments["input_ids"][0] == token).nonzero().max())

    def change(module: Any, inputs: tuple[Any, ...], options: dict[str, Any]) -> Any:
        hidden = inputs[0] if inputs else options["hidden_states"]
        changed = hidden.clone()
        changed[:, last] = -changed[:, last].flip(-1) + 1
        return ((changed, *inputs[1:]), options) if inputs else (inputs, {**options, "hidden_states": changed})

    first: Any = part.get_submodule(stack.path)[0]
    with torch.inference_mode(), quiet_transformers():
        before = model(**arguments, use_cache=False).logits[0]
        hook = first.register_forward_pre_hook(change, with_kwargs=True)
        try:
            after = model(**arguments, use_cache=False).logits[0]
        finally:
            hook.remove()
    return float((before[:last] - after[:last]).abs().max() / before.std()) > _UNSEEN
