"""Faults that are planted between a prompt's images or recordings and the decoder, and what they have in common."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np


def change_prompts(backend: Any, change: Any) -> None:
    """Change every prompt on its way into a state."""
    own = backend.attach_images
    backend.attach_images = lambda state, prompts: own(state, [change(prompt) for prompt in prompts])


def rows_rolled(backend: Any, reader: Any) -> None:
    change_prompts(backend, lambda one: replace(one, features=np.ascontiguousarray(np.roll(one.features, 5, axis=0))))


def one_place_off(backend: Any, reader: Any) -> None:
    change_prompts(backend, lambda one: replace(one, index=np.roll(one.index, 1)))


def forgotten_in_decode(backend: Any, reader: Any) -> None:
    """A call of one token reads nothing shown: right but for a prompt that comes in pieces of one token."""
    own = backend.forward

    def forward(ids: Any, state: Any, **options: Any) -> Any:
        kept = state.images
        if int(state.lengths.max()) > 0:
            state.images = None
        try:
            return own(ids, state, **options)
        finally:
            state.images = kept

    backend.forward = forward


def rows_exchanged(backend: Any, reader: Any) -> None:
    own = backend.attach_images
    backend.attach_images = lambda state, prompts: own(state, list(prompts)[::-1])


def nothing_shown(backend: Any, reader: Any) -> None:
    """A decoder that looks past what it is shown cannot be told from one whose pieces are exchanged."""
    backend.attach_images = lambda state, prompts: None
