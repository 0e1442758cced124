"""Refuses a source with NaN or infinite weights before they spread through statistics and figures, and names them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    from torch import nn

_SHOWN = 3


def check_finite_weights(module: nn.Module) -> None:
    """Raise InputError that names the parameters with NaN or infinite values; reads every weight once."""
    import torch

    wrong = [name for name, parameter in module.named_parameters() if not bool(torch.isfinite(parameter).all())]
    if wrong:
        more = f" and {len(wrong) - _SHOWN} more" if len(wrong) > _SHOWN else ""
        raise InputError(
            f"There are NaN or infinite values in {', '.join(wrong[:_SHOWN])}{more}",
            received=f"{len(wrong)} weights that are not finite",
            allowed="finite weights",
            fix="Check the checkpoint; it may be damaged, or have overflowed in float16.",
        )
