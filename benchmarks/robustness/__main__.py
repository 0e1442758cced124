"""Damages files, kills jobs and fills their disks, and prints how many of the attempts ended in which way.

    python -m benchmarks.robustness --inputs build/robustness --mutants 500 --kills 50 --out counts.json
    python -m benchmarks.robustness --artifact build/tiny --checkpoint TINY --mutants 1000 --out counts.json

With --inputs, tiny models of every kind are made in that folder and all of their files are damaged. The counts are kept
in --out: the same command goes on where it was ended, by Ctrl-C, SIGTERM, --minutes or a kill. Exits with 1 where an
attempt ended in a traceback, a hang, a crash, half an artifact, another answer, or a statement dropped in silence.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path

from jisu.benchmarks.robustness.checkpoint_damage import CheckpointDamage
from jisu.benchmarks.robustness.full_disk import small_disk
from jisu.benchmarks.robustness.subjects import write_inputs
from jisu.benchmarks.robustness.tally import Tally, read_tally
from jisu.benchmarks.robustness.trials import (
    Setting,
    Trial,
    artifact_trial,
    checkpoint_trial,
    export_kills,
    kill_trials,
    other_trials,
)
from jisu.exporter.contract.errors import InputError
from jisu.exporter.jobs.termination import TERMINATED, ending_cleanly

_INTERRUPTED = 130
_PIECE = 10  # attempts of one trial before the next one's turn
_SAVE_EVERY = 5.0  # seconds
_DISK = 512 << 20  # bytes of the disk that fills


def main(argv: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--inputs", type=Path, help="folder for tiny inputs of every kind, made when it is not there")
    parser.add_argument("--checkpoint", type=Path, action="append", default=[], help="a folder or a GGUF file; several")
    parser.add_argument("--artifact", type=Path, action="append", default=[], help="of a small model; several")
    parser.add_argument("--mutants", type=int, default=200, help="damaged files of each input (%(default)s)")
    parser.add_argument(
        "--kills",
        type=int,
        default=0,
        help="of each job of --inputs, and of exports of each --checkpoint (%(default)s)",
    )
    parser.add_argument(
        "--fills", type=int, default=0, help="times that the disk of each job fills; needs root (%(default)s)"
    )
    parser.add_argument("--only", help="trials with this in their names only")
    parser.add_argument("--seed", type=int, default=0, help="other numbers damage other places (%(default)s)")
    parser.add_argument("--seconds", type=float, default=60.0, help="after which an attempt hangs (%(default)s)")
    parser.add_argument("--minutes", type=float, help="stop after this many minutes; the same command resumes")
    parser.add_argument("--out", type=Path, help="JSON file of counts and examples; resumed when it exists")
    arguments = parser.parse_args(argv)
    if not (arguments.inputs or arguments.checkpoint or arguments.artifact):
        parser.error("there is nothing to damage: give --inputs, --checkpoint or --artifact")
    try:
        tally = read_tally(arguments.out) if arguments.out is not None else Tally()
        code = _run(arguments, tally)
    except InputError as error:
        parser.error(str(error))
    sys.stdout.write(tally.render())
    return code or (1 if tally.faults else 0)


def _run(arguments: argparse.Namespace, tally: Tally) -> int:
    """Make the attempts; the exit code of what ended them early, 0 of a run that was finished."""
    until = None if arguments.minutes is None else time.monotonic() + 60 * arguments.minutes
    try:
        with ending_cleanly(), tempfile.TemporaryDirectory(prefix="jisu-robustness-") as place, ExitStack() as stack:
            _import_heavy()
            setting = Setting(place=Path(place), seconds=arguments.seconds, seed=arguments.seed)
            disk = None
            if arguments.fills:
                disk = stack.enter_context(small_disk(setting.make("disk"), size=_DISK))
            trials = _trials(arguments, setting, disk)
            for trial, _ in trials:
                if isinstance(trial, CheckpointDamage):
                    trial.read(trial.path)  # for the modules that it imports
            try:
                _take_turns(trials, tally, arguments.out, until)
            finally:
                if arguments.out is not None:
                    tally.write(arguments.out)
    except KeyboardInterrupt:
        return _INTERRUPTED
    except SystemExit as end:
        if end.code != TERMINATED:
            raise
        return TERMINATED
    return 0


def _trials(arguments: argparse.Namespace, setting: Setting, disk: Path | None) -> list[tuple[Trial, int]]:
    """Each trial and the number of attempts."""
    damaged: list[Trial] = [artifact_trial(path.name, path, setting) for path in arguments.artifact]
    damaged += [checkpoint_trial(path.name, path, setting) for path in arguments.checkpoint]
    killed: list[Trial] = [export_kills(path.name, path, setting) for path in arguments.checkpoint]
    filled: list[Trial] = []
    if arguments.inputs is not None:
        inputs = write_inputs(arguments.inputs.absolute())
        damaged += [artifact_trial(name, path, setting) for name, path in inputs.artifacts.items()]
        damaged += [
            checkpoint_trial(name, path, setting, options=inputs.options.get(name))
            for name, path in inputs.checkpoints.items()
        ]
        damaged += other_trials(inputs, setting)
        killed += kill_trials(inputs, setting)
        filled += [] if disk is None else kill_trials(inputs, setting, disk=disk)
    counted = ((damaged, arguments.mutants), (killed, arguments.kills), (filled, arguments.fills))
    trials = [(trial, count) for group, count in counted for trial in group]
    return [pair for pair in trials if arguments.only is None or arguments.only in pair[0].name]


def _take_turns(trials: Sequence[tuple[Trial, int]], tally: Tally, out: Path | None, until: float | None) -> None:
    """All attempts that have not been made, a few of each trial at a time."""
    saved = time.monotonic()
    while waiting := [pair for pair in trials if tally.made.get(pair[0].name, 0) < pair[1]]:
        for trial, count in waiting:
            first = tally.made.get(trial.name, 0)
            for number in range(first, min(first + _PIECE, count)):
                if until is not None and time.monotonic() > until:
                    return
                trial.run(number, tally)
                tally.made[trial.name] = number + 1
                if out is not None and time.monotonic() - saved > _SAVE_EVERY:
                    tally.write(out)
                    saved = time.monotonic()


def _import_heavy() -> None:
    """So that no attempt spends its time on it."""
    import torch
    import transformers

    import jisu.runtimes.backends.ort_cpu.backend
    import jisu.runtimes.engine
    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    torch.set_num_threads(1)
    assert all((import_onnxruntime(), transformers, jisu.runtimes.engine, jisu.runtimes.backends.ort_cpu.backend))


if __name__ == "__main__":
    sys.exit(main())
