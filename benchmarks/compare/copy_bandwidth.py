"""How fast a device copies within its own memory: the bound of a decoder that reads all its weights for every token."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

COPIED = 1 << 30  # beyond any cache
TRIALS = 10


def measure_copy_bandwidth(device: torch.device, *, size: int = COPIED, trials: int = TRIALS) -> float:
    """Bytes per second, read and written ones together; the best of the trials, since others can only slow it down."""
    import torch

    source = torch.ones(size, dtype=torch.uint8, device=device)
    target = torch.empty_like(source)
    target.copy_(source)
    best = 0.0
    for _ in range(trials):
        wait_for(device)
        started = time.perf_counter()
        target.copy_(source)
        wait_for(device)
        best = max(best, 2 * size / (time.perf_counter() - started))
    return best


def wait_for(device: torch.device) -> None:
    """Until everything that the device was given is done."""
    import torch

    if device.type == "cuda":
        torch.cuda.synchronize(device)
