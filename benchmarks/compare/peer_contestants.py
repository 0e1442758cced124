"""The engines a user would pick instead: a row for each that is installed and has its model, a line for each other."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jisu.benchmarks.compare.contestants import Contestant
from jisu.exporter.contract.errors import InputError

INSTALL = "python -m venv build/peers && build/peers/bin/pip install -r benchmarks/peers/requirements.txt"
PREPARE = "python -m benchmarks.peers.prepare CHECKPOINT --python build/peers/bin/python --out build/peer-models"
# The other environment has no jisu: its workers find ours, after their own libraries.
_ROOT = Path(__file__).parents[3]
_START = (
    "import runpy, sys; sys.path.append({root!r}); runpy.run_module({module!r}, run_name='__main__', alter_sys=True)"
)
_LOOK = "import importlib.util, json, sys; print(json.dumps([n for n in sys.argv[1:] if importlib.util.find_spec(n)]))"


# What each worker imports; the first two are in our own environment, the others in one of their own.
_LIBRARIES = {
    "run_transformers": "transformers",
    "run_genai": "onnxruntime_genai",
    "run_llama_cpp": "llama_cpp",
    "run_openvino": "openvino_genai",
}
_OURS = ("run_transformers", "run_genai")


@dataclass(frozen=True)
class Peer:
    """A worker of `benchmarks.peers`, its model in the folder of `benchmarks.peers.prepare`, and its options."""

    worker: str
    model: str
    options: tuple[str, ...] = ()


PEERS = {
    "PyTorch eager": Peer("run_transformers", "transformers", ("eager",)),
    "torch.compile": Peer("run_transformers", "transformers", ("compile",)),
    "genai fp32": Peer("run_genai", "genai-fp32"),
    "genai int4": Peer("run_genai", "genai-int4"),
    "llama.cpp F16": Peer("run_llama_cpp", "f16.gguf"),
    "llama.cpp Q8_0": Peer("run_llama_cpp", "q8_0.gguf"),
    "llama.cpp Q4_K_M": Peer("run_llama_cpp", "q4_k_m.gguf"),
    "llama.cpp Q4_0": Peer("run_llama_cpp", "q4_0.gguf"),
    "OpenVINO int8": Peer("run_openvino", "openvino-int8"),
    "OpenVINO int4": Peer("run_openvino", "openvino-int4"),
}


def peer_contestants(models: Path, python: Path, *, threads: int) -> tuple[list[Contestant], dict[str, str]]:
    """Every peer that can run, and by the names of the others how to get them.

    Args:
        models: the folder that `benchmarks.peers.prepare` has written.
        python: the interpreter of the environment with the other engines.

    Raises:
        InputError: there is no such folder.
    """
    if not models.is_dir():
        raise InputError(
            f"There are no models of other engines in {models}",
            received="a folder without them",
            allowed="a folder that benchmarks.peers.prepare has written",
            fix=f"Make them with: {PREPARE}",
        )
    ours = Path(sys.executable)
    installed = _installed(ours) | _installed(python)
    contestants, missing = [], {}
    for name, peer in PEERS.items():
        path, library = models / peer.model, _LIBRARIES[peer.worker]
        interpreter = ours if peer.worker in _OURS else python
        if (interpreter, library) not in installed:
            how = "pip install 'jisu[dev]'" if interpreter == ours else INSTALL
            there = shutil.which(interpreter) is not None
            what = f"{library} is not installed; install it" if there else f"there is no {interpreter}; make it"
            missing[name] = f"{what} with: {how}"
        elif not path.exists():
            missing[name] = f"{path} is missing; make it with: {PREPARE}"
        else:
            start = _START.format(root=str(_ROOT), module=f"jisu.benchmarks.peers.{peer.worker}")
            command = (str(interpreter), "-c", start, str(path), str(threads), *peer.options)
            contestants.append(Contestant(name=name, command=command, facts=_facts(peer, path)))
    return contestants, missing


def _facts(peer: Peer, path: Path) -> dict[str, Any]:
    engine = peer.worker.removeprefix("run_")
    return {"engine": engine, "path": path.name, "size_bytes": _bytes_of(path), "export_seconds": None}


def _installed(python: Path) -> set[tuple[Path, str]]:
    """Which libraries of the workers an interpreter finds; none when there is no such interpreter."""
    try:
        done = subprocess.run([str(python), "-c", _LOOK, *_LIBRARIES.values()], capture_output=True, text=True)
        return {(python, library) for library in json.loads(done.stdout)}
    except (OSError, ValueError):
        return set()


def _bytes_of(path: Path) -> int:
    """What a user has to keep: an engine's caches, which it makes anew, are left out."""
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and "cache" not in file.parts)
