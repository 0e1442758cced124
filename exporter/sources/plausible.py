"""Refuses configurations whose numbers no model can have, before anything is built or computed from them.

They are untrusted: a number of layers or a constant of a norm is believed only when it can be meant.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError

# Constants that keep a division from failing: zero and above, and finite.
_EPSILON = ("eps", "epsilon")
# In the names of probabilities with which training drops something; torch refuses others at the first call.
_DROPPED = ("dropout", "pdrop", "layerdrop")
# transformers makes lists of this length while it reads a configuration, before anything can be compared.
_MOST_LAYERS = 10_000
# In the names of counts of layers, of a decoder, an encoder or anything else. Some come from another
# model's size and are never built: only what is beyond every model is refused.
_LAYERS = ("layers", "n_layer", "num_blocks", "depth")
_MANY_LAYERS = 1_000


_DEEPEST = 8
_HUGE = 10**300  # an integer beyond it is no float


def check_layer_count(layers: Any, checkpoint: Path) -> None:
    """Raise InputError when a stated number of layers, of whatever type, is beyond any model's."""
    if isinstance(layers, (int, float)) and not layers <= _MOST_LAYERS:
        raise InputError(
            f"The configuration of {checkpoint} has numbers that no model can have",
            received=f"{layers} layers",
            allowed=f"1 to {_MOST_LAYERS} layers",
            fix="Download or convert the checkpoint again.",
        )


def check_config(config: Any, checkpoint: Path, *, stored: int) -> None:
    """Raise InputError that names every implausible number of a transformers configuration at once.

    Args:
        config: the configuration.
        checkpoint: named in the error.
        stored: how many tensors the checkpoint holds. Each layer has one of its own at least, and a number of layers
            beyond that would be built for a long time before its weights were missed.
    """
    problems = [
        f"{name} {value}"
        for name, value in _numbers(vars(config))
        if not _plausible(name, value)
        or (name.endswith("heads") and value < 0)
        or (name.endswith(_LAYERS) and value > max(stored, _MANY_LAYERS))
    ]
    text = config.get_text_config()
    for name in ("num_hidden_layers", "max_position_embeddings"):
        value = getattr(text, name, None)
        if isinstance(value, int) and value < 1:
            problems.append(f"{name} {value}")
    layers = getattr(text, "num_hidden_layers", None)
    if isinstance(layers, int) and layers > stored:
        problems.append(f"{layers} layers for {stored} stored tensors")
    if problems:
        raise InputError(
            f"The configuration of {checkpoint} has numbers that no model can have",
            received=", ".join(dict.fromkeys(problems)),
            allowed="layers and positions from 1, at least one stored tensor per layer, a rotary base above 0, "
            "constants of norms from 0, dropout from 0 to 1, no NaN",
            fix="Download or convert the checkpoint again.",
        )


def _plausible(name: str, value: float) -> bool:
    if math.isnan(value):
        return False
    if name.endswith(_EPSILON):
        return 0 <= value < math.inf
    if any(part in name for part in _DROPPED):
        return 0 <= value <= 1
    return not name.endswith("rope_theta") or 0 < value < math.inf


def _numbers(record: Mapping[str, Any], depth: int = 0) -> Iterator[tuple[str, float]]:
    """Every number below a mapping or a nested configuration, with its own key."""
    for name, value in record.items():
        inner = value if isinstance(value, Mapping) else getattr(value, "__dict__", None)
        if isinstance(inner, Mapping) and depth < _DEEPEST:
            yield from _numbers(inner, depth + 1)
        elif isinstance(value, (int, float)) and not isinstance(value, bool):
            yield str(name), math.inf if abs(value) > _HUGE else float(value)
        elif isinstance(value, (list, tuple)):
            yield from ((str(name), one) for one in value if isinstance(one, float))
