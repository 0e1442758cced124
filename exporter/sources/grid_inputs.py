"""What a vision network computes of an image's grid alone, found out by listening to it.

transformers has one function for each such thing and lets a caller give its result instead, for traces.
"""

from __future__ import annotations

import inspect
import sys
from collections.abc import Callable
from typing import Any

from jisu.exporter.contract.errors import InputError

_POSITIONS = "get_vision_position_ids"
_WINDOWS = "get_vision_window_index"
_INTERPOLATION = "get_vision_interpolation_indices_and_weights"
# Of one image there is one segment.
_GIVEN = frozenset({"get_vision_cu_seqlens", "get_vision_attention_seqlens"})
_PREFIX = "get_vision_"


def grid_inputs_of(model: Any, run: Callable[[], Any]) -> dict[str, dict[str, Any]]:
    """What a run asks of the grid, with the settings that `runtimes.images.grid.grid_arrays` takes.

    Raises:
        InputError: something that is not known there.
    """
    import transformers.vision_utils as source

    modules = {sys.modules[type(child).__module__] for child in model.modules()}
    names = [name for name in vars(source) if name.startswith(_PREFIX)]
    places = [(module, name, getattr(module, name)) for module in modules for name in names if hasattr(module, name)]
    calls: dict[str, dict[str, Any]] = {}

    def listening(name: str, own: Any) -> Any:
        def call(*arguments: Any, **options: Any) -> Any:
            bound = inspect.signature(own).bind(*arguments, **options)
            bound.apply_defaults()
            calls[name] = dict(bound.arguments)
            return own(*arguments, **options)

        return call

    try:
        for module, name, own in places:
            setattr(module, name, listening(name, own))
        run()
    finally:
        for module, name, own in places:
            setattr(module, name, own)
    return _settings(calls, type(model).__name__)


def _settings(calls: dict[str, dict[str, Any]], name: str) -> dict[str, dict[str, Any]]:
    requests: dict[str, dict[str, Any]] = {}
    unknown = sorted(set(calls) - {_POSITIONS, _WINDOWS, _INTERPOLATION} - _GIVEN)
    if (call := calls.get(_POSITIONS)) is not None:
        unknown += ["positions in time"] if call["include_temporal"] else []
        requests["position_ids"] = {"merge": int(call["spatial_merge_size"])}
    if (call := calls.get(_WINDOWS)) is not None:
        merge = int(call["spatial_merge_size"])
        blocks = int(call["window_size"]) // merge // int(call["patch_size"])
        requests["windows"] = {"merge": merge, "blocks": blocks}
    if (call := calls.get(_INTERPOLATION)) is not None:
        unknown += [] if call["mode"] == "bilinear" and call["padding"] == "border" else [f"{call['mode']} filters"]
        requests["interpolation"] = {
            "side": int(call["num_grid_per_side"]),
            "merge": int(call["spatial_merge_size"]),
            "align_corners": bool(call["align_corners"]),
        }
    if unknown:
        raise InputError(
            f"{name} reads something of an image's grid that is not known here",
            received=", ".join(unknown),
            allowed="positions of patches, windows, and tables that are interpolated bilinearly",
            fix="Choose another model.",
        )
    return requests
