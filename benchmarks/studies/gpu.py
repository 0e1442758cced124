"""Measures a GPU: decode and prefill of one model by our backends, torch, torch.compile and a bare session.

``python -m benchmarks.studies.gpu MODEL`` exports the model in fp16 for ``ort-cuda`` (and for TensorRT where it can
run), and writes ``benchmarks/results/<gpu>.json``. ``--rehearse`` does all of it on the CPU in fp32, for its own tests.
"""

from __future__ import annotations

import argparse
import json
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.benchmarks.compare.copy_bandwidth import measure_copy_bandwidth
from jisu.benchmarks.compare.memory_traffic import state_bytes, weight_bytes
from jisu.benchmarks.compare.summary import summarize
from jisu.benchmarks.studies.gpu_contestants import Contestant, OurBackend, RawSession, TorchModel
from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError, JisuError

if TYPE_CHECKING:
    import torch

    from jisu.exporter.sources.source import Source

RESULTS = Path(__file__).resolve().parents[1] / "results"
REFERENCE = "torch eager"


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is fed, and how often; one more round first, which is not counted."""

    prompt: int = 256
    new_tokens: int = 64
    trials: int = 7


def main(words: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.studies.gpu", description=__doc__)
    parser.add_argument("model", help="a checkpoint: folder, GGUF file or hub id")
    parser.add_argument("--out", type=Path, default=RESULTS, metavar="FOLDER", help="where <gpu>.json goes")
    parser.add_argument("--prompt", type=int, default=Workload.prompt, metavar="N", help="tokens of the prompt (256)")
    parser.add_argument("--new-tokens", type=int, default=Workload.new_tokens, metavar="N", help="decoded tokens (64)")
    parser.add_argument("--trials", type=int, default=Workload.trials, metavar="N", help="interleaved rounds (7)")
    parser.add_argument("--rehearse", action="store_true", help="on the CPU, in fp32")
    arguments = parser.parse_args(words)
    workload = Workload(prompt=arguments.prompt, new_tokens=arguments.new_tokens, trials=arguments.trials)
    try:
        report = measure(arguments.model, workload, rehearse=arguments.rehearse)
    except JisuError as error:
        sys.stderr.write(f"benchmarks.studies.gpu: error: {error}\n")
        return error.exit_code
    arguments.out.mkdir(parents=True, exist_ok=True)
    path = arguments.out / f"{_plain(report['device']['name'])}.json"
    path.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
    print(table(report))
    print(path)
    return 0


def measure(model: str, workload: Workload, *, rehearse: bool) -> dict[str, Any]:
    """Export, run the contestants interleaved, and report.

    Raises:
        InputError: no GPU, or a model that cannot be exported.
    """
    import torch

    from jisu.exporter import load_source

    device = torch.device("cpu") if rehearse else torch.device("cuda")
    facts = _processor() if rehearse else _gpu(torch)
    source = load_source(model)
    capacity = workload.prompt + workload.new_tokens + 1
    token_ids = _prompt(source, workload.prompt)
    with tempfile.TemporaryDirectory(prefix="jisu-gpu-") as folder:
        contestants: list[Contestant] = []
        problems: dict[str, str] = {}
        artifact = _artifact(model, Path(folder), target="ort-cuda", precision="fp32" if rehearse else "fp16")
        for name, make in _makers(artifact, source, Path(folder), model, capacity, device).items():
            try:
                contestants.append(make())
            except (JisuError, RuntimeError, ImportError) as error:
                problems[name] = str(error).splitlines()[0]
        rounds, failed = run_rounds(contestants, token_ids, workload)
        bandwidth = measure_copy_bandwidth(device, size=1 << 26 if rehearse else 1 << 30)
        read = (weight_bytes(artifact, "ort-cuda") or 0.0) + state_bytes(
            artifact, batch=1, length=workload.prompt + workload.new_tokens / 2
        )
    return {
        "device": facts,
        "model": {"architecture": source.model.architecture, "parameters": source.model.parameters},
        "workload": {"prompt_tokens": workload.prompt, "new_tokens": workload.new_tokens, "batch": 1},
        "precision": "fp32" if rehearse else "fp16",
        "copy_bytes_per_s": bandwidth,
        "bytes_per_token": read,
        "bound_tokens_per_s": bandwidth / read if read else None,
        "rows": _rows(rounds, workload, bandwidth=bandwidth, read=read),
        "not_run": {**problems, **failed},
    }


@dataclass(frozen=True, kw_only=True)
class Round:
    """Seconds of one prompt and of the tokens behind it, and those tokens."""

    prefill: float
    decode: float
    tokens: tuple[int, ...]


def run_rounds(
    contestants: Sequence[Contestant],
    token_ids: npt.NDArray[np.int64],
    workload: Workload,
    *,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[dict[str, list[Round]], dict[str, str]]:
    """Rounds by contestant, all of them interleaved; and why one that failed on the way has none."""
    rounds: dict[str, list[Round]] = {one.name: [] for one in contestants}
    failed: dict[str, str] = {}
    for trial in range(1 + workload.trials):
        for one in contestants:
            if one.name in failed:
                continue
            try:
                times = _round(one, token_ids, workload.new_tokens, clock)
            except Exception as error:  # noqa: BLE001 - whatever an engine raises, the others go on
                failed[one.name] = f"{type(error).__name__}: {error}".splitlines()[0]
                rounds.pop(one.name)
                continue
            if trial:
                rounds[one.name].append(times)
    return rounds, failed


def _round(one: Contestant, token_ids: npt.NDArray[np.int64], count: int, clock: Callable[[], float]) -> Round:
    started = clock()
    tokens = [one.prefill(token_ids)]
    prefilled = clock()
    for _ in range(count):
        tokens.append(one.decode(tokens[-1]))
    return Round(prefill=prefilled - started, decode=clock() - prefilled, tokens=tuple(tokens))


def _rows(
    rounds: dict[str, list[Round]], workload: Workload, *, bandwidth: float, read: float
) -> dict[str, dict[str, Any]]:
    truth = rounds[REFERENCE][0].tokens if rounds.get(REFERENCE) else None
    eager = _rate(rounds[REFERENCE], workload) if rounds.get(REFERENCE) else None
    rows = {}
    for name, trials in rounds.items():
        rate = _rate(trials, workload)
        tokens = trials[0].tokens
        rows[name] = {
            "decode_tokens_per_s": summarize([workload.new_tokens / one.decode for one in trials]).to_dict(),
            "prefill_tokens_per_s": summarize([workload.prompt / one.prefill for one in trials]).to_dict(),
            "time_to_first_token_s": summarize([one.prefill for one in trials]).to_dict(),
            "times_torch_eager": rate / eager if eager else None,
            "share_of_copy_bandwidth": read * rate / bandwidth,
            "same_tokens_as_torch": None if truth is None else _same(tokens, truth),
        }
    return rows


def _rate(trials: Sequence[Round], workload: Workload) -> float:
    return summarize([workload.new_tokens / one.decode for one in trials]).median


def _same(tokens: Sequence[int], truth: Sequence[int]) -> int:
    """How many tokens are the same before the first that is not."""
    return next((index for index, pair in enumerate(zip(tokens, truth, strict=True)) if pair[0] != pair[1]), len(truth))


def _makers(
    artifact: Artifact, source: Source, folder: Path, model: str, capacity: int, device: torch.device
) -> dict[str, Callable[[], Contestant]]:
    import torch

    from jisu.runtimes.backends.registry import open_backend

    on_gpu = device.type == "cuda"
    dtype = torch.float16 if on_gpu else torch.float32
    provider = "CUDAExecutionProvider" if on_gpu else "CPUExecutionProvider"

    def torch_model(*, compiled: bool) -> Contestant:
        return TorchModel(source.module, capacity=capacity, device=device, dtype=dtype, compiled=compiled)

    def plans(name: str) -> Contestant:
        exported = _artifact(model, folder, target="tensorrt", precision="fp16" if on_gpu else "fp32")
        return OurBackend(open_backend(name, exported), capacity=capacity)

    return {
        REFERENCE: lambda: torch_model(compiled=False),
        "torch.compile": lambda: torch_model(compiled=True),
        "raw session": lambda: RawSession(artifact, capacity=capacity, provider=provider, device=device.type),
        "ort": lambda: OurBackend(open_backend("ort-cuda" if on_gpu else "ort-cpu", artifact), capacity=capacity),
        "jisu tensorrt": lambda: plans("tensorrt"),
        "jisu tensorrt-rtx": lambda: plans("tensorrt-rtx"),
    }


def _artifact(model: str, folder: Path, *, target: str, precision: str) -> Artifact:
    from jisu.exporter import export
    from jisu.exporter.contract.artifact import read_artifact

    out = folder / target
    return read_artifact(out) if out.exists() else export(model, out, target=target, precision=precision)


def _prompt(source: Source, tokens: int) -> npt.NDArray[np.int64]:
    from jisu.exporter.gate.domains import held_out_prose

    assert source.tokenizer is not None, "the studied model has a tokenizer"
    text = np.asarray(source.tokenizer.encode(held_out_prose()), np.int64)
    most = min(tokens, len(text))
    if most < tokens:
        raise InputError(
            "The benchmark's prompt is longer than its text",
            received=f"--prompt {tokens}",
            allowed=f"up to {most}",
            fix="Choose a smaller --prompt.",
        )
    return text[:tokens]


def _gpu(torch: Any) -> dict[str, Any]:
    from jisu.runtimes.machine.gpu import probe_gpus

    gpus = probe_gpus()
    if not gpus.devices or not torch.cuda.is_available():
        raise InputError(
            "There is no GPU to measure",
            received=gpus.problem or f"torch {torch.__version__}, which is built without CUDA",
            allowed="an NVIDIA GPU with its driver, and a torch that is built for it",
            fix="Run it there, or rehearse it with --rehearse.",
        )
    here = gpus.devices[0]
    return {
        "name": here.name,
        "memory": here.memory,
        "compute_capability": list(here.compute_capability),
        **_versions(),
    }


def _processor() -> dict[str, Any]:
    return {"name": "rehearsal on a CPU", **_versions()}


def _versions() -> dict[str, str]:
    import torch
    import transformers

    from jisu.exporter.contract.import_onnxruntime import import_onnxruntime

    return {
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "onnxruntime": import_onnxruntime().__version__,
    }


def table(report: dict[str, Any]) -> str:
    """The rows for people."""
    lines = [f"{'':20} decode tok/s  prefill tok/s  x eager  of bandwidth  same tokens"]
    for name, row in report["rows"].items():
        decode, prefill = (row[key]["median"] for key in ("decode_tokens_per_s", "prefill_tokens_per_s"))
        eager = row["times_torch_eager"]
        lines.append(
            f"{name:20} {decode:12.1f}  {prefill:13.1f}  {eager or float('nan'):7.2f}"
            f"  {row['share_of_copy_bandwidth']:12.2f}  {row['same_tokens_as_torch']}"
        )
    lines += [f"{name}: not run, {reason}" for name, reason in report["not_run"].items()]
    return "\n".join(lines)


def _plain(name: str) -> str:
    return "-".join("".join(letter if letter.isalnum() else " " for letter in name.lower()).split())


if __name__ == "__main__":
    sys.exit(main())
