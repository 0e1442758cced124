"""Damages files and kills exports, and prints how many of the attempts ended in which way.

    python -m benchmarks.robustness --checkpoint TINY --artifact build/tiny --mutants 1000 --kills 20 --out counts.json

Checkpoint and artifact are small ones: each attempt reads one of them whole. Exits with 1 where an attempt ended in a
traceback, a hang, a crash, half an artifact, or another answer than the whole artifact's.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

from benchmarks.robustness.trials import Tally, damage_artifact, damage_checkpoint, kill_exports


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--checkpoint", type=Path, help="a folder or a GGUF file, read with files damaged")
    parser.add_argument("--artifact", type=Path, help="an artifact of a small model, opened with files damaged")
    parser.add_argument("--mutants", type=int, default=200, help="damaged files of each of the two (%(default)s)")
    parser.add_argument("--kills", type=int, default=0, help="exports of the checkpoint to kill (%(default)s)")
    parser.add_argument("--seed", type=int, default=0, help="other numbers damage other places (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which an attempt hangs (%(default)s)")
    parser.add_argument("--out", type=Path, help="also write the counts and examples as JSON")
    arguments = parser.parse_args(argv)
    if arguments.checkpoint is None and (arguments.artifact is None or arguments.kills):
        parser.error("there is nothing to damage: name a --checkpoint, an --artifact, or both; kills need a checkpoint")
    tally = Tally()
    common = {"seed": arguments.seed, "seconds": arguments.seconds, "tally": tally}
    try:
        if arguments.artifact is not None:
            damage_artifact(arguments.artifact, mutants=arguments.mutants, **common)
        if arguments.checkpoint is not None:
            _import_heavy()
            damage_checkpoint(arguments.checkpoint, mutants=arguments.mutants, **common)
        if arguments.kills:
            kill_exports(arguments.checkpoint, kills=arguments.kills, **{**common, "seconds": 20 * arguments.seconds})
    finally:  # a run that was interrupted has counts, too
        sys.stdout.write(render(tally))
        if arguments.out is not None:
            arguments.out.write_text(json.dumps(tally.to_dict(), indent=2) + "\n", encoding="utf-8")
    return 1 if tally.faults else 0


def render(tally: Tally) -> str:
    """One line for each damaged file, and examples of what must not happen."""
    width = max(map(len, tally.counts), default=0)
    lines = [
        f"{what:{width}}  {', '.join(f'{count} {ending}' for ending, count in sorted(ends.items()))}"
        for what, ends in tally.counts.items()
    ]
    lines += [f"{what}: {detail}" for what, details in tally.examples.items() for detail in details]
    return "\n".join(lines) + "\n"


def _import_heavy() -> None:
    """So that no attempt spends its time on it."""
    import torch
    import transformers

    import exporter.sources
    import runtimes

    torch.set_num_threads(1)
    assert all((transformers, exporter.sources, runtimes))


if __name__ == "__main__":
    sys.exit(main())
