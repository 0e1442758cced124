"""Refuses a source with NaN or infinite weights before they spread through statistics and figures, and names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    import torch
    from torch import nn

_SHOWN = 3
_PIECE = 1 << 22  # numbers looked at at once


def check_finite_weights(module: nn.Module) -> None:
    """Raise InputError that names the parameters with NaN or infinite values; reads every weight once."""
    wrong = [name for name, parameter in module.named_parameters() if not _all_finite(parameter)]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InputError(
            f"There are NaN or infinite values in {', '.join(wrong[:_SHOWN])}{more}",
            received=f"{len(wrong)} weights that are not finite",
            allowed="finite weights",
            fix="Check the checkpoint; it may be damaged, or have overflowed in float16.",
        )


def _all_finite(parameter: torch.Tensor) -> bool:
    """Piece by piece: what is computed of a weight on the way is larger than the weight itself."""
    import torch

    flat = parameter.detach().reshape(-1)
    starts = range(0, len(flat), _PIECE)
    return all(bool(torch.isfinite(flat[start : start + _PIECE]).all()) for start in starts)
