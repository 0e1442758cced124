"""``jisu doctor``: what this machine can run, and what is wrong with it."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from jisu.runtimes.commands.standard_streams import write_json
from jisu.runtimes.machine.doctor import Diagnosis, diagnose
from jisu.runtimes.machine.model_size import measure_model
from jisu.runtimes.machine.probe import Machine, probe_machine

GIB = 1 << 30
_INT8 = {
    None: "unknown",
    False: "sums in 32 bits, as with VNNI: runs every artifact correctly",
    True: "sums in 16 bits (no VNNI): refuses artifacts exported with --assume-vnni, runs all others correctly",
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--model",
        metavar="PATH_OR_COUNT",
        help="also check whether this model fits: a path, or a parameter count such as 7B",
    )
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    parser.epilog = "Exits with 0 when ort-cpu is ready, no packages conflict and the model fits; with 2 otherwise."


def run(arguments: argparse.Namespace) -> int:
    from jisu.runtimes.backends.registry import BACKENDS

    model = measure_model(arguments.model) if arguments.model else None
    diagnosis = diagnose(probe_machine(Path.cwd()), implemented=BACKENDS, model=model)
    if arguments.json:
        write_json(diagnosis.to_dict(), indent=2)
    else:
        sys.stdout.write(format_diagnosis(diagnosis))
    return diagnosis.exit_code


def format_diagnosis(diagnosis: Diagnosis) -> str:
    """The diagnosis as text: machine, packages, clashes, backends, and the model when one was named."""
    lines = _format_machine(diagnosis.machine)
    lines += ["", "Packages"]
    width = max((len(name) for name in diagnosis.machine.packages), default=0)
    lines += [f"  {name:{width}}  {version}" for name, version in diagnosis.machine.packages.items()]
    for clash in diagnosis.clashes:
        lines += ["", f"Clash: {clash.problem}.", f"  {clash.fix}"]
    lines += ["", "Backends"]
    for backend in diagnosis.backends:
        lines.append(f"  {backend.name:12}  {'ready' if backend.ready else f'no: {backend.reason}'}")
        if backend.install:
            lines.append(f"  {'':12}  {backend.install}")
    lines += ["", "Building plans (jisu build)"]
    for builder in diagnosis.plans:
        how = f"ready, {builder.reason}" if builder.reason else "ready"
        lines.append(f"  {builder.name:12}  {how if builder.ready else f'no: {builder.reason}'}")
        if builder.install:
            lines.append(f"  {'':12}  {builder.install}")
    if diagnosis.fits:
        lines += ["", "Model"]
    for fit in diagnosis.fits:
        word = {True: "fits", False: "DOES NOT FIT", None: "unknown"}[fit.fits]
        lines.append(f"  {word}: {fit.what}: needs {_size(fit.needed)}, free {_size(fit.available)}")
    return "\n".join(lines) + "\n"


def _format_machine(machine: Machine) -> list[str]:
    features = machine.cpu_features
    has = "unknown" if features is None else " ".join(name for name, there in features.items() if there) or "none"
    cores = f"{machine.cores}" + (f", limited to {machine.cpu_limit:g} cores' time" if machine.cpu_limit else "")
    memory = f"{_size(machine.memory)}, free {_size(machine.memory_free)}"
    if machine.memory_limit is not None:
        memory += f", limited to {_size(machine.memory_limit)}"
    gpus = [
        f"{gpu.name}, {_size(gpu.memory)}, compute capability {'.'.join(map(str, gpu.compute_capability))}"
        for gpu in machine.gpu.devices
    ]
    return [
        "Machine",
        f"  Python        {machine.python} on {machine.system}",
        f"  CPU           {machine.cpu or 'unknown'}",
        f"  features      {has}",
        f"  int8 matmul   {_INT8[machine.ort.int8_overflow]}",
        f"  cores         {cores}",
        f"  memory        {memory}",
        f"  disk          free {_size(machine.disk_free)} at {machine.disk_folder}",
        *(f"  GPU           {gpu}" for gpu in gpus or [machine.gpu.problem or "none"]),
    ]


def _size(size: int | None) -> str:
    return "unknown" if size is None else f"{size / GIB:.1f} GiB"
