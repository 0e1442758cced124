"""Runs a language model over whole sequences from nothing, whatever way its module wants to be called.

Three ways are told apart by the module itself, never by a name: explicit state (`state_spec()` and ``forward(input_ids,
past_length, state)``), transformers' (a forward with ``use_cache``, an output with ``.logits``), and token ids alone,
with an ``attention_mask`` where the forward has one.
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import torch

# How a state specification spells the axis that grows with the tokens, and the one that counts rows.
_CAPACITY, _BATCH = "capacity", "B"
# What an output that holds several tensors answers with.
_ANSWERS = ("logits", "sentence_embedding", "start_logits")


def run_whole(model: torch.nn.Module, input_ids: torch.Tensor) -> torch.Tensor:
    """Logits of complete sequences of one length.

    Args:
        model: any of the three kinds; its mode and gradients are the caller's business.
        input_ids: int64 [B, T].

    Returns:
        [B, T, V] of a language model, [B, labels] of a classifier, [B, D] of an embedding model.
    """
    import torch

    if has_state(model):
        batch, tokens = input_ids.shape
        items: Any = model.state_spec()  # type: ignore[operator]
        past = torch.zeros(batch, dtype=torch.int64, device=input_ids.device)
        logits, _ = model(input_ids, past, empty_state(items, batch=batch, capacity=tokens))
        return logits  # type: ignore[no-any-return]
    accepted = inspect.signature(model.forward).parameters
    options: dict[str, Any] = {}
    if "use_cache" in accepted:
        options["use_cache"] = False
    mask = accepted.get("attention_mask")
    if mask is not None and mask.default is mask.empty:
        options["attention_mask"] = torch.ones_like(input_ids)
    output = model(input_ids, **options)
    answer = next((name for name in _ANSWERS if hasattr(output, name)), None)
    return output if answer is None else getattr(output, answer)  # type: ignore[no-any-return]


def has_state(model: torch.nn.Module) -> bool:
    """Whether the module says what it carries from token to token."""
    return callable(getattr(model, "state_spec", None))


def empty_state(items: Iterable[Any], *, batch: int, capacity: int) -> list[torch.Tensor]:
    """Zeros of every tensor that a `state_spec()` lists, for ``batch`` rows of at most ``capacity`` tokens."""
    import torch

    sizes = {_BATCH: batch, _CAPACITY: capacity}
    return [
        torch.zeros([sizes.get(dim, dim) for dim in dims], dtype=_torch_dtype(dtype)) for _, _, dims, dtype in items
    ]


def _torch_dtype(dtype: Any) -> torch.dtype:
    """A specification gives torch dtypes or their names."""
    import torch

    torch_dtype: torch.dtype = getattr(torch, dtype) if isinstance(dtype, str) else dtype
    return torch_dtype
