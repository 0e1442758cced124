"""What a processor writes around the text of a prompt with images, besides what stands for the images themselves.

Few have such a rule: a token behind the last image, say, and a line's end. It is learnt from two texts.
"""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.errors import InputError

_FIRST, _MIDDLE, _LAST = "alpha", "beta", "gamma"  # words that no rule writes by itself


def layout_of(processor: Any, *, mark: str) -> dict[str, str] | None:
    """Texts ``before`` a prompt, behind its last ``mark`` and at its ``end``; None where there are none.

    Raises:
        InputError: the processor changes texts in another way.
    """
    one = _changed(processor, f"{_FIRST}{mark}{_LAST}", images=1)
    before, _, rest = one.partition(_FIRST + mark)
    behind, _, end = rest.partition(_LAST)
    from jisu.runtimes.images.marks import laid_out

    layout = {"before": before, "mark": behind, "end": end}
    several = f"{_FIRST}{mark}{_MIDDLE}{mark}{_LAST}"
    made = _changed(processor, several, images=2)
    if laid_out(several, mark, layout) != made or laid_out(f"{_FIRST}{mark}{_LAST}", mark, layout) != one:
        raise InputError(
            f"{type(processor).__name__} changes the text of a prompt in a way that is not known",
            received=made,
            allowed="something before a text, behind its last image, and at its end",
            fix="Choose another model.",
        )
    if not any(layout.values()):
        return None
    bare, usual = (processor.tokenizer(_FIRST, add_special_tokens=added)["input_ids"] for added in (False, True))
    if bare != usual:
        raise InputError(
            f"{type(processor).__name__} and its tokenizer both write something around a text",
            received=f"{layout} and special tokens",
            allowed="one of them",
            fix="Choose another model.",
        )
    return layout


def _changed(processor: Any, text: str, *, images: int) -> str:
    """What the processor makes of a text, its marks not expanded."""
    own = getattr(processor, "prepare_inputs_layout", None)
    if own is None:
        return text
    import numpy as np
    from PIL import Image

    picture = Image.fromarray(np.zeros((32, 32, 3), np.uint8))
    made = own(images=[picture] * images, text=[text])[1]
    changed = made[0] if isinstance(made, list) else made
    return str(changed)
