"""Compares weight formats and rounding algorithms on every held-out domain: size, divergence of the worst, seconds.

    python -m benchmarks.studies.weight_formats CHECKPOINT --out FILE.json \\
        [--artifact FOLDER ...] [--gguf FILE ...] [--genai FOLDER ...] [--weights FILE ...] [--algorithms "b32;hqq"] \\
        [--tokens 512]

Artifacts run on ONNX Runtime, GGUF files on llama.cpp and genai's folders on onnxruntime-genai, where these are
installed; algorithms run in torch with quantized and dequantized weights, and so do layers that another tool has
rounded (`benchmarks.peers.auto_round_weights`), with an embedding of 8 bits. All of them predict the same
tokens as the checkpoint in float32, each domain from windows of its own. Rows that the file already has are not
measured again. Nothing may be tuned on these texts: they are the gate's.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.benchmarks.studies.measure_weight_algorithms import Case, apply, stored_bytes
from jisu.calibration.text.builtin_texts import reference_prose
from jisu.calibration.text.mixture import part_weights
from jisu.calibration.text.windows import Windows, draw_windows
from jisu.exporter.gate.domain_tokens import DomainTokens, domain_tokens
from jisu.exporter.gate.quality import QualityMeter
from jisu.exporter.quantization.calibration_data import WINDOWS, read_calibration_data
from jisu.exporter.sources import load_source

if TYPE_CHECKING:
    from jisu.calibration.statistics.statistics import Statistics

Floats = npt.NDArray[np.float32]
# Token ids [T] -> logits [T, V].
Predict = Callable[[npt.NDArray[np.int64]], Floats]

# Of a name's end: every part of the mixture counts alike in the statistics.
ALIKE = ", parts alike"
# name -> (algorithm, calibrated on the mixture or on English prose alone)
ALGORITHMS: dict[str, tuple[Case, bool]] = {
    "nearest, extremes, b32": (Case(algorithm="rtn", block_size=32), False),
    "nearest, least squares, b32": (Case(algorithm="rtn+mse", block_size=32), False),
    "hqq, b32": (Case(algorithm="hqq", block_size=32), False),
    "awq+gptq, b64, prose alone": (Case(algorithm="awq+gptq-sequential"), False),
    "awq+gptq, b64": (Case(algorithm="awq+gptq-sequential"), True),
    "gptq, b32": (Case(algorithm="gptq-sequential", block_size=32), True),
    "awq+gptq, b32": (Case(algorithm="awq+gptq-sequential", block_size=32), True),
    f"awq+gptq, b32{ALIKE}": (Case(algorithm="awq+gptq-sequential", block_size=32), True),
    "awq+gptq, b32, damping 0.3": (Case(algorithm="awq+gptq-sequential", block_size=32, damping=0.3), True),
    "awq+gptq, b128": (Case(algorithm="awq+gptq-sequential", block_size=128), True),
    # What no kernel runs: how far 4 bits are from the next width.
    "5 bits, awq+gptq, b32": (Case(algorithm="awq+gptq-sequential", bits=5, block_size=32), True),
    "8 bits, b32": (Case(algorithm="rtn+mse", bits=8, block_size=32, symmetric=True), False),
}


@dataclass
class Subject:
    """The checkpoint in torch: what `measure_weight_algorithms` asks of it, and its logits on the domains."""

    model: Any
    windows: Windows
    statistics: Statistics | None = None
    window_weights: Sequence[float] | None = None

    @property
    def heads(self) -> int:
        return int(self.model.config.num_attention_heads)

    @property
    def kv_heads(self) -> int:
        return int(self.model.config.num_key_value_heads)

    def logits(self, ids: npt.NDArray[np.int64]) -> Floats:
        import torch

        with torch.inference_mode():
            logits = self.model(torch.from_numpy(ids)[None], use_cache=False).logits[0]
        return np.asarray(logits.numpy(), dtype=np.float32)


class Domains:
    """Windows of every domain, at most so many tokens of each, and the checkpoint's logits on them in a file."""

    def __init__(self, domains: Sequence[DomainTokens], truth: Predict, *, tokens: int, folder: Path) -> None:
        self._domains: list[tuple[str, list[npt.NDArray[np.int64]]]] = []
        self._folder = folder
        for domain in domains:
            windows: list[npt.NDArray[np.int64]] = []
            for window in domain.windows:
                if sum(map(len, windows)) < tokens:
                    windows.append(window)
                    np.save(self._path(domain.name, len(windows) - 1), truth(window).astype(np.float32))
            self._domains.append((domain.name, windows))

    def score(self, predict: Predict) -> dict[str, dict[str, float]]:
        """Mean KL divergence in nats, top-1 agreement and scored tokens of each domain."""
        scores = {}
        for name, windows in self._domains:
            meter = QualityMeter()
            for number, window in enumerate(windows):
                reference = np.load(self._path(name, number), mmap_mode="r")
                meter.add(np.asarray(reference[:-1]), predict(window)[:-1], window[1:])
            quality = meter.result()
            scores[name] = {"mean_kl": quality.mean_kl, "top1": quality.top1, "tokens": quality.tokens}
        return scores

    def _path(self, name: str, number: int) -> Path:
        return self._folder / f"{name.replace('/', '-')}-{number}.npy"


def of_artifact(folder: Path) -> tuple[Predict, int]:
    """What an artifact predicts on ONNX Runtime, and its bytes."""
    from jisu.runtimes import load

    backend = load(folder, backend="ort-cpu").backend

    def predict(ids: npt.NDArray[np.int64]) -> Floats:
        state = backend.new_state(1, len(ids))
        return np.asarray(backend.forward(ids[None], state, logits="all")[0], dtype=np.float32)

    return predict, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def of_gguf(file: Path) -> tuple[Predict, int]:
    """What llama.cpp predicts with a GGUF file, and its bytes."""
    import llama_cpp  # type: ignore[import-not-found, import-untyped, unused-ignore]

    model = llama_cpp.Llama(str(file), n_ctx=512, n_batch=512, logits_all=True, verbose=False)

    def predict(ids: npt.NDArray[np.int64]) -> Floats:
        model.reset()
        model.eval(ids.tolist())
        return np.array(model.scores[: len(ids)], dtype=np.float32)

    return predict, file.stat().st_size


def of_genai(folder: Path) -> tuple[Predict, int]:
    """What onnxruntime-genai predicts with a folder of its builder, token after token, and the folder's bytes."""
    import onnxruntime_genai

    model = onnxruntime_genai.Model(str(folder))

    def predict(ids: npt.NDArray[np.int64]) -> Floats:
        parameters = onnxruntime_genai.GeneratorParams(model)
        parameters.set_search_options(max_length=len(ids) + 1)
        generator = onnxruntime_genai.Generator(model, parameters)
        rows = []
        for token in ids:
            generator.append_tokens(np.array([token], dtype=np.int32))
            rows.append(np.array(generator.get_logits(), dtype=np.float32).reshape(-1))
        return np.stack(rows)

    return predict, sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def of_algorithm(case: Case, subject: Subject) -> tuple[Predict, int]:
    """What the checkpoint predicts with weights that an algorithm has rounded, and the bytes of these alone."""
    apply(case, subject)  # type: ignore[arg-type]
    return subject.logits, stored_bytes(case, subject.model)


def of_weights(file: Path, subject: Subject) -> tuple[Predict, int]:
    """What the checkpoint predicts with layers that another tool has rounded, and the bytes of weights.

    The file's metadata says how many bytes the layers take, which floats do not show.
    """
    import torch
    from safetensors import safe_open

    apply(Case(algorithm="none"), subject)  # type: ignore[arg-type]
    with safe_open(file, framework="pt") as stored, torch.no_grad():
        layers, facts = list(stored.keys()), stored.metadata()
        for name in layers:
            subject.model.get_parameter(name).copy_(stored.get_tensor(name))
    rest = stored_bytes(Case(algorithm="none"), subject.model)
    return subject.logits, int(facts["bytes"]) + rest - 4 * sum(
        subject.model.get_parameter(name).numel() for name in layers
    )


def choose_algorithms(parts: Sequence[str]) -> dict[str, tuple[Case, bool]]:
    """Those of `ALGORITHMS` that have one of these names, or a part of it in theirs."""
    return {
        name: made
        for name, made in ALGORITHMS.items()
        if any(part == name if part in ALGORITHMS else part in name for part in parts)
    }


def rows(options: argparse.Namespace, source: Any) -> Iterator[tuple[str, Callable[[], tuple[Predict, int]]]]:
    """Name and maker of every row that is asked for."""
    for folder in options.artifact:
        yield f"jisu {folder.name}", lambda folder=folder: of_artifact(folder)  # type: ignore[misc]
    for file in options.gguf:
        yield f"llama.cpp {file.stem}", lambda file=file: of_gguf(file)  # type: ignore[misc]
    for folder in options.genai:
        yield f"onnxruntime-genai {folder.name}", lambda folder=folder: of_genai(folder)  # type: ignore[misc]
    own = {name: value.clone() for name, value in source.module.state_dict().items()}
    for file in options.weights:
        source.module.load_state_dict(own)
        subject = Subject(source.module, Windows(ids=np.zeros((0, 0), np.int64), seed=0))
        yield f"weights of {file.stem}", lambda file=file, subject=subject: of_weights(file, subject)  # type: ignore[misc]
    parts = [part for part in options.algorithms.split(";") if part]
    chosen = choose_algorithms(parts)
    if not chosen:
        return
    model = source.module
    ids = np.asarray(source.tokenizer.encode(reference_prose()), dtype=np.int64)
    prose = draw_windows(ids, count=options.windows, length=256)
    mixture = read_calibration_data(source, windows=options.windows)
    for name, (case, mixed) in chosen.items():
        model.load_state_dict(own)
        weights = part_weights(mixture.parts) if name.endswith(ALIKE) else None
        name = name if options.windows == WINDOWS else f"{name}, {options.windows} windows"
        subject = Subject(model, mixture.windows if mixed else prose, window_weights=weights)
        yield name, lambda case=case, subject=subject: of_algorithm(case, subject)  # type: ignore[misc]


def write_for_others(source: Any, folder: Path, *, windows: int) -> None:
    """The checkpoint as a float32 folder of transformers, and `windows.npy`: what other tools are to calibrate on."""
    data = read_calibration_data(source, windows=windows)
    source.module.save_pretrained(folder)
    source.tokenizer.save_pretrained(folder)
    np.save(folder / "windows.npy", data.windows.ids)


def table(report: dict[str, Any]) -> str:
    """Markdown: a row for each format, the worst domain first."""
    lines = [
        "| format | MB | seconds | worst KL | worst domain | mean KL | lowest top-1 |",
        "|---|---|---|---|---|---|---|",
    ]
    for name, row in report["rows"].items():
        kl = {domain: figures["mean_kl"] for domain, figures in row["domains"].items()}
        worst = max(kl, key=lambda domain: kl[domain])
        top1 = min(figures["top1"] for figures in row["domains"].values())
        lines.append(
            f"| {name} | {row['bytes'] / 1e6:.1f} | {row['seconds']:.0f} | {kl[worst]:.4f} | {worst} | "
            f"{sum(kl.values()) / len(kl):.4f} | {top1:.3f} |"
        )
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, required=True, help="JSON file of the figures")
    parser.add_argument("--artifact", type=Path, action="append", default=[], help="an exported folder")
    parser.add_argument("--gguf", type=Path, action="append", default=[], help="a GGUF file for llama.cpp")
    parser.add_argument("--genai", type=Path, action="append", default=[], help="a folder of genai's model builder")
    parser.add_argument("--weights", type=Path, action="append", default=[], help="layers that another tool rounded")
    parser.add_argument("--for-others", type=Path, help="write the checkpoint and the windows there, and end")
    parser.add_argument(
        "--algorithms", default="", help="names, or parts of them, separated by semicolons (default: none)"
    )
    parser.add_argument("--tokens", type=int, default=512, help="of each domain, about (default: 512)")
    parser.add_argument("--windows", type=int, default=WINDOWS, help="of calibration (default: %(default)s)")
    options = parser.parse_args()
    source = load_source(options.checkpoint)
    assert source.tokenizer is not None, "the texts have to be made into tokens"
    if options.for_others is not None:
        write_for_others(source, options.for_others, windows=options.windows)
        return
    truth = Subject(source.module, Windows(ids=np.zeros((0, 0), np.int64), seed=0))
    report: dict[str, Any] = {"checkpoint": Path(options.checkpoint).name, "tokens": options.tokens, "rows": {}}
    if options.out.exists():
        report = json.loads(options.out.read_text(encoding="utf-8"))
    with TemporaryDirectory() as folder:
        judged = domain_tokens(source.tokenizer, source.model.vocab_size).domains
        domains = Domains(judged, truth.logits, tokens=options.tokens, folder=Path(folder))
        for name, make in rows(options, source):
            if name in report["rows"]:
                continue
            started = time.perf_counter()
            predict, size = make()
            seconds = time.perf_counter() - started
            report["rows"][name] = {"bytes": size, "seconds": seconds, "domains": domains.score(predict)}
            options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
            print(table({"rows": {name: report["rows"][name]}}).splitlines()[-1], flush=True)
    print(table(report))


if __name__ == "__main__":
    main()
