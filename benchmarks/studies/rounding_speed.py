"""How fast weights are rounded: GB/s of float32 weights, by the clock and by the seconds that cores were busy.

    python -m benchmarks.studies.rounding_speed [--shape 4864x896] [--rounds 5]

Rounding is to nearest with scales of least squared error, on random weights; the best of several rounds counts. By the
clock all cores work together; the other figure is for one core and holds on a machine that does other things.
"""

from __future__ import annotations

import argparse
import sys
import time

import numpy as np

from jisu.calibration.weights.formats import BlockFormat
from jisu.calibration.weights.round_to_nearest import round_to_nearest

FORMATS = {
    "8 bits, b32": BlockFormat(bits=8, block_size=32, symmetric=True),
    "8 bits, b64": BlockFormat(bits=8, block_size=64, symmetric=True),
    "4 bits, b32": BlockFormat(bits=4, block_size=32, symmetric=False),
}


def speeds(rows: int, features: int, block_format: BlockFormat, *, rounds: int) -> tuple[float, float]:
    """(GB/s by the clock, GB/s for each second of a core), the best of the rounds."""
    weight = np.random.default_rng(0).standard_normal((rows, features), dtype=np.float32)
    clock, busy = [], []
    for _ in range(rounds):
        begun, used = time.perf_counter(), time.process_time()
        round_to_nearest(weight, block_format, layer="random weights")
        clock.append(time.perf_counter() - begun)
        busy.append(time.process_time() - used)
    return weight.nbytes / min(clock) / 1e9, weight.nbytes / max(min(busy), 1e-9) / 1e9


def main(arguments: list[str] | None = None) -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--shape", default="4864x896", help="rows x features (default: %(default)s)")
    parser.add_argument("--rounds", type=int, default=5, help="default: %(default)s")
    options = parser.parse_args(arguments)
    rows, features = (int(part) for part in options.shape.split("x"))
    for name, block_format in FORMATS.items():
        clock, busy = speeds(rows, features, block_format, rounds=options.rounds)
        sys.stdout.write(f"{name}: {clock:.2f} GB/s, {busy:.2f} GB/s for a second of a core\n")


if __name__ == "__main__":
    main()
