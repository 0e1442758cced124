"""Speed, memory, size and quality of artifacts against other engines: same token ids, one process each, interleaved.

    python -m benchmarks.against_peers build/int8 build/int4 --models build/peer-models \\
        --python build/peers/bin/python --ratio build/int4 q4_k_m --out build/peers.json

The models are made by `benchmarks.peers.prepare`. Rounds run A B C, A B C, ...; every process but the one that is timed
is stopped meanwhile. With two engines in one process, either would lose a quarter of its speed to the other's spinning
threads. A ratio is taken round by round.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import statistics
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from types import TracebackType
from typing import Any

from benchmarks.trials import Summary, machine
from exporter.artifact import MANIFEST, read_artifact

# Ending of a model's name -> the worker that runs it.
_WORKERS = {
    "genai-fp32": "run_genai",
    "genai-int4": "run_genai",
    "openvino-int8": "run_openvino",
    "gguf": "run_llama_cpp",
}
_PREFILL, _DECODE = "prefill tok/s", "decode tok/s"
_FIGURES = {"mean-kl": "mean KL", "top-1": "top-1", "perplexity-ratio": "perplexity ratio"}


@dataclass(kw_only=True)
class Candidate:
    """What is measured: its name in the table, the command of its worker, its size in bytes and known quality."""

    name: str
    command: list[str]
    size: int
    quality: Mapping[str, float]


class Worker:
    """A process that generates when asked and stands still otherwise."""

    def __init__(self, candidate: Candidate) -> None:
        self._process = subprocess.Popen(
            candidate.command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        self.name = candidate.name
        self.opened = self._read()
        self._stop()

    def __enter__(self) -> Worker:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._process.kill()
        self._process.wait()

    def ask(self, prompt: list[int], new_tokens: int) -> dict[str, Any]:
        """One generation; raises RuntimeError when the worker ends."""
        assert self._process.stdin is not None
        os.kill(self._process.pid, signal.SIGCONT)
        self._process.stdin.write(json.dumps({"prompt": prompt, "new_tokens": new_tokens}) + "\n")
        self._process.stdin.flush()
        answer = self._read()
        self._stop()
        return answer

    def _stop(self) -> None:
        os.kill(self._process.pid, signal.SIGSTOP)

    def _read(self) -> dict[str, Any]:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name}: the worker ended with {self._process.wait()}")
        answer: dict[str, Any] = json.loads(line)
        return answer


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("artifacts", type=Path, nargs="+", help="folders written by `jisu export`")
    parser.add_argument("--models", type=Path, help="folder written by `benchmarks.peers.prepare`")
    parser.add_argument("--python", type=Path, help="of the environment with llama.cpp and OpenVINO")
    parser.add_argument("--ratio", nargs=2, action="append", default=[], metavar=("OURS", "OTHER"), help="to work out")
    parser.add_argument("--prompt-tokens", type=int, default=256)
    parser.add_argument("--new-tokens", type=int, default=64)
    parser.add_argument("--trials", type=int, default=7)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--out", type=Path, help="JSON file; the table goes beside it as Markdown")
    arguments = parser.parse_args()

    candidates = [ours(folder, arguments.threads) for folder in arguments.artifacts]
    if arguments.models is not None:
        candidates += others(arguments.models, arguments.python or Path(sys.executable), arguments.threads)
    vocabulary = read_artifact(arguments.artifacts[0]).manifest.model.vocab_size
    draw = random.Random(0)
    # Another prompt in every round: some engines keep what they computed for the last one.
    prompts = [
        [draw.randrange(100, vocabulary) for _ in range(arguments.prompt_tokens)] for _ in range(arguments.trials + 1)
    ]
    rows = measure(candidates, prompts, new_tokens=arguments.new_tokens)
    ratios = {f"{a} / {b}": ratios_of(rows, a, b) for a, b in arguments.ratio}
    text = render(rows, ratios)
    print(text)
    if arguments.out is not None:
        record = {
            "benchmark": "against_peers",
            "command": sys.argv,
            "machine": machine(),
            "rows": rows,
            "ratios": {name: {key: asdict(value) for key, value in found.items()} for name, found in ratios.items()},
        }
        arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
        arguments.out.with_suffix(".md").write_text(text + "\n", encoding="utf-8")


def ours(folder: Path, threads: int) -> Candidate:
    """An artifact; its quality is what the gate measured."""
    artifact = read_artifact(folder)
    checks = {check["name"]: check["value"] for check in artifact.manifest.gate["checks"]}
    return Candidate(
        name=str(folder),
        command=[sys.executable, "-m", "benchmarks.peers.run_jisu", str(folder), str(threads)],
        size=artifact.size + (folder / MANIFEST).stat().st_size,
        quality={words: checks[name] for name, words in _FIGURES.items() if name in checks},
    )


def others(models: Path, python: Path, threads: int) -> list[Candidate]:
    """Every model in the folder that a worker knows."""
    found = []
    for path in sorted(models.iterdir()):
        worker = next((worker for ending, worker in _WORKERS.items() if path.name.endswith(ending)), None)
        if worker is None or path.name.startswith("f32"):
            continue
        interpreter = sys.executable if worker == "run_genai" else str(python)
        found.append(
            Candidate(
                name=path.name.removesuffix(".gguf"),
                command=[interpreter, "-m", f"benchmarks.peers.{worker}", str(path), str(threads)],
                size=_bytes_of(path),
                quality={},
            )
        )
    return found


def measure(candidates: list[Candidate], prompts: list[list[int]], *, new_tokens: int) -> list[dict[str, Any]]:
    """A round for each prompt, the first to warm up; a record for each candidate, its numbers in their order."""
    rows: list[dict[str, Any]] = []
    workers = []
    try:
        for candidate in candidates:
            worker = Worker(candidate)
            workers.append(worker)
            rows.append(
                {
                    "name": candidate.name,
                    "size": candidate.size,
                    **worker.opened,
                    "quality": dict(candidate.quality),
                    _PREFILL: [],
                    _DECODE: [],
                }
            )
        for number, prompt in enumerate(prompts):
            for worker, row in zip(workers, rows, strict=True):
                answer = worker.ask(prompt, new_tokens)
                if number:
                    row[_PREFILL].append(len(prompt) / answer["prefill_seconds"])
                    row[_DECODE].append((new_tokens - 1) / answer["decode_seconds"])
                row |= {key: answer[key] for key in ("resident_bytes", "peak_bytes")}
    finally:
        for worker in workers:
            worker.__exit__(None, None, None)
    return rows


def ratios_of(rows: list[dict[str, Any]], name: str, other: str) -> dict[str, Summary]:
    """Speed of one candidate over another's, round by round."""
    first, second = (next(row for row in rows if row["name"] == wanted) for wanted in (name, other))
    return {
        key: _summary([mine / theirs for mine, theirs in zip(first[key], second[key], strict=True)])
        for key in (_PREFILL, _DECODE)
    }


def render(rows: list[dict[str, Any]], ratios: Mapping[str, Mapping[str, Summary]]) -> str:
    """Markdown: a line for each candidate, and one for each ratio."""
    keys = list(_FIGURES.values())
    head = ["candidate", "size MB", _PREFILL, _DECODE, "resident MB", "peak MB", *keys, "version"]
    lines = [f"| {' | '.join(head)} |", f"|{' --- |' * len(head)}"]
    for row in rows:
        quality = [f"{row['quality'][key]:.4g}" if key in row["quality"] else "" for key in keys]
        speeds = [str(_summary(row[key])) for key in (_PREFILL, _DECODE)]
        memory = [f"{row[key] / 1e6:.0f}" for key in ("resident_bytes", "peak_bytes")]
        cells = [row["name"], f"{row['size'] / 1e6:.1f}", *speeds, *memory, *quality, row["version"]]
        lines.append(f"| {' | '.join(cells)} |")
    lines += [""] if ratios else []
    for name, found in ratios.items():
        lines.append(f"- {name}: " + ", ".join(f"{key.split()[0]} {value}" for key, value in found.items()))
    return "\n".join(lines)


def _summary(values: list[float]) -> Summary:
    return Summary(median=statistics.median(values), least=min(values), most=max(values))


def _bytes_of(path: Path) -> int:
    if path.is_file():
        return path.stat().st_size
    return sum(file.stat().st_size for file in path.rglob("*") if file.is_file() and "cache" not in file.parts)


if __name__ == "__main__":
    main()
