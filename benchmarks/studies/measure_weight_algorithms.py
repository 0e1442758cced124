"""Compares weight quantization algorithms on one model: size, divergence, agreement, time, memory.

    python -m benchmarks.studies.measure_weight_algorithms CHECKPOINT --out FILE.json \\
        [--cases "gptq;rtn"] [--perturb 0.05]

The torch model runs with quantized and dequantized weights, against itself in float32, on held-out text. Cases that the
output file already has are not measured again, so that a run can be interrupted. ``--perturb`` multiplies every row of
every matrix by exp(SIGMA * normal): a checkpoint that was itself dequantized from 4 bits loses its grid, and the
algorithms are compared as on any other model.
"""

from __future__ import annotations

import argparse
import json
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.calibration.model.linear_groups import linear_names
from jisu.calibration.sequential import GroupStatistics, quantize_sequentially, split_rows
from jisu.calibration.statistics.collect import CollectSettings, collect
from jisu.calibration.statistics.statistics import Statistics
from jisu.calibration.text.builtin_texts import reference_prose
from jisu.calibration.text.windows import Windows, draw_windows
from jisu.calibration.weights.awq import clip_blocks, search_channel_scales
from jisu.calibration.weights.coordinate_descent import refine_codes
from jisu.calibration.weights.folding import multiply_columns, share_between_query_heads
from jisu.calibration.weights.formats import BlockFormat, BlockQuantized, Floats
from jisu.calibration.weights.gptq import GptqOptions, Order, gptq
from jisu.calibration.weights.hqq import hqq
from jisu.calibration.weights.round_to_nearest import round_to_nearest
from jisu.exporter.gate.domains import held_out_prose
from jisu.exporter.gate.quality import QualityMeter
from jisu.exporter.jobs.peak_memory import PeakMemory
from jisu.exporter.sources import load_source

if TYPE_CHECKING:
    import torch

SCORED_WINDOWS, SCORED_LENGTH = 8, 256
SEARCHED = {"rtn": False, "rtn+mse": True, "rtn+diag": True}


@dataclass(frozen=True, kw_only=True)
class Case:
    """One row of the table. ``algorithm`` of "none" leaves the layers in float32; so does ``embedding_bits`` of 32."""

    algorithm: str
    bits: int = 4
    block_size: int = 64
    symmetric: bool = False
    order: Order = "blocks"
    search: bool = True
    damping: float = 0.03
    embedding_bits: int = 8
    embedding_block: int = 64

    @property
    def name(self) -> str:
        kind = "sym" if self.symmetric else "asym"
        layers = f"{self.algorithm} int{self.bits} {self.block_size} {kind}" if self.algorithm != "none" else "none"
        if "gptq" in self.algorithm:
            layers += f" {self.order}{'' if self.search else ' min-max'} {self.damping:g}"
        return f"{layers}, embedding int{self.embedding_bits} {self.embedding_block}"

    @property
    def layer_format(self) -> BlockFormat:
        return BlockFormat(bits=self.bits, block_size=self.block_size, symmetric=self.symmetric, short_last_block=True)


def cases() -> Iterator[Case]:
    """All rows, the cheap ones first."""
    for bits, block in ((32, 32), (8, 32), (8, 64), (8, 128), (4, 32), (4, 64)):
        yield Case(algorithm="none", embedding_bits=bits, embedding_block=block)
    for block in (32, 64, 128):
        for symmetric in (False, True):
            yield Case(algorithm="rtn", bits=8, block_size=block, symmetric=symmetric)
    for algorithm in ("rtn", "rtn+mse", "rtn+diag", "hqq", "awq", "awq+clip", "gptq", "awq+gptq", "gptq-sequential"):
        for block in (64, 32, 128):
            for symmetric in (False, True):
                yield Case(algorithm=algorithm, block_size=block, symmetric=symmetric)
    for order in ("natural", "columns"):
        for algorithm in ("gptq", "gptq-sequential"):
            yield Case(algorithm=algorithm, order=order)
    yield Case(algorithm="gptq-sequential", search=False)
    yield Case(algorithm="gptq-sequential", damping=0.01)
    yield Case(algorithm="gptq+descent")
    yield Case(algorithm="gptq+descent-sequential")
    yield Case(algorithm="awq+gptq-sequential")
    yield Case(algorithm="gptq-sequential", embedding_bits=4, embedding_block=32)


class Subject:
    """The model, its float32 logits on the held-out windows, and its calibration windows."""

    model: Any
    window_weights: Sequence[float] | None = None  # how much each counts, None for all alike

    def __init__(self, checkpoint: str, *, windows: int, length: int, perturb: float) -> None:
        source = load_source(checkpoint)
        assert source.tokenizer is not None, "the text has to be made into tokens"
        module: Any = source.module
        module.set_attn_implementation("sdpa")
        self.model = module
        if perturb:
            perturb_rows(module, perturb)
        self.original = {name: value.clone() for name, value in self.model.state_dict().items()}
        ids = np.asarray(source.tokenizer.encode(reference_prose()), dtype=np.int64)
        self.windows: Windows = draw_windows(ids, count=windows, length=length)
        held_out = np.asarray(source.tokenizer.encode(held_out_prose()), dtype=np.int64)
        starts = np.linspace(0, len(held_out) - SCORED_LENGTH, SCORED_WINDOWS).astype(int)
        self.scored = [held_out[start : start + SCORED_LENGTH] for start in starts]
        self.reference = [self._logits(window) for window in self.scored]
        config = module.config
        self.heads: int = config.num_attention_heads
        self.kv_heads: int = config.num_key_value_heads
        self._statistics: Statistics | None = None
        self._folder = tempfile.TemporaryDirectory()

    @property
    def statistics(self) -> Statistics:
        """Of the float32 model, with Hessians; collected when first asked for."""
        if self._statistics is None:
            self.reset()
            settings = CollectSettings(hessians=True, save_every=10**9)
            started = time.perf_counter()
            self._statistics = collect(self.model, self.windows, self._folder.name, settings=settings)
            print(f"statistics collected in {time.perf_counter() - started:.0f} s", flush=True)
        return self._statistics

    def reset(self) -> None:
        self.model.load_state_dict(self.original)

    def quality(self) -> dict[str, float | int]:
        meter = QualityMeter()
        for window, reference in zip(self.scored, self.reference, strict=True):
            meter.add(reference, self._logits(window), window[1:])
        return meter.result().to_dict()

    def _logits(self, window: Any) -> Floats:
        import torch

        with torch.inference_mode():
            logits = self.model(torch.from_numpy(window)[None], use_cache=False).logits[0, :-1]
        return np.asarray(logits.numpy(), dtype=np.float32)


def perturb_rows(model: torch.nn.Module, sigma: float) -> None:
    """Multiply each row of each matrix by exp(sigma * normal), seeded."""
    import torch

    generator = torch.Generator().manual_seed(0)
    for parameter in model.parameters():
        if parameter.ndim == 2:
            parameter.data.mul_(torch.exp(sigma * torch.randn(len(parameter), 1, generator=generator)))


def quantize_group(case: Case, group: GroupStatistics, subject: Subject) -> list[BlockQuantized]:
    """Quantize layers with one input."""
    form, stacked, layer = case.layer_format, np.concatenate(group.weights), group.names[0]
    scales = np.ones(stacked.shape[1], dtype=np.float32)
    if "awq" in case.algorithm:
        mean_abs = group.mean_abs
        if layer.endswith("o_proj"):
            mean_abs = share_between_query_heads(mean_abs, subject.heads, subject.kv_heads)
        scales = search_channel_scales(
            [stacked], form, mean_abs=mean_abs, hessian=group.hessian, layer=layer, points=10
        ).scales
    hessian = group.hessian / np.outer(scales, scales)
    weight = multiply_columns(stacked, scales)
    if "gptq" in case.algorithm:
        options = GptqOptions(order=case.order, search=case.search, damping=case.damping)
        result = gptq(weight, hessian, form, layer=layer, options=options)
        if "descent" in case.algorithm:
            result = refine_codes(weight, hessian, result, damping=case.damping)
    elif case.algorithm == "hqq":
        result = hqq(weight, form, layer=layer)
    elif case.algorithm == "awq+clip":
        result = clip_blocks(weight, hessian, form, layer=layer)
    else:
        importance = np.diagonal(hessian) if case.algorithm == "rtn+diag" else None
        search = SEARCHED.get(case.algorithm, False)
        result = round_to_nearest(weight, form, layer=layer, search=search, importance=importance)
    if "awq" in case.algorithm:
        result = replace(result, channel_scales=scales)
    return split_rows(result, [len(one) for one in group.weights])


def apply(case: Case, subject: Subject) -> None:
    """Put quantized weights into the model."""
    import torch

    model = subject.model
    if case.embedding_bits < 32:
        form = BlockFormat(
            bits=case.embedding_bits, block_size=case.embedding_block, symmetric=False, short_last_block=True
        )
        embedding = model.get_input_embeddings().weight
        quantized = round_to_nearest(embedding.detach().numpy(), form, layer="embedding")
        embedding.data.copy_(torch.from_numpy(quantized.dequantize()))
    if case.algorithm.endswith("sequential"):

        def quantize(group: GroupStatistics) -> Sequence[BlockQuantized]:
            return quantize_group(case, group, subject)

        layers, windows = list(model.model.layers), subject.windows.as_list()
        for _ in quantize_sequentially(model, layers, windows, quantize, weights=subject.window_weights):
            pass
    elif case.algorithm != "none":
        for group in groups_of(case, subject):
            for name, result in zip(group.names, quantize_group(case, group, subject), strict=True):
                model.get_submodule(name).weight.data.copy_(torch.from_numpy(result.dequantize()))


def needs_statistics(case: Case) -> bool:
    """Whether the case needs statistics of the float32 model."""
    return case.algorithm not in ("none", "rtn", "rtn+mse", "hqq") and not case.algorithm.endswith("sequential")


def groups_of(case: Case, subject: Subject) -> Iterator[GroupStatistics]:
    """The layers of the decoder; without need of statistics, each alone and with none."""
    model = subject.model
    if needs_statistics(case):
        groups = [names for names in subject.statistics.groups if ".layers." in names[0]]
    else:
        groups = [(f"model.layers.{name}",) for name in linear_names(model.model.layers)]
    for names in groups:
        weights = tuple(model.get_submodule(name).weight.detach().numpy() for name in names)
        if needs_statistics(case):
            group = subject.statistics.of(names[0])
            hessian, mean_abs, tokens = group.hessian, group.mean_abs, group.tokens
        else:
            features = weights[0].shape[1]
            hessian, mean_abs, tokens = np.ones((features, features), np.float32), np.ones(features, np.float32), 0
        yield GroupStatistics(names=names, weights=weights, hessian=hessian, mean_abs=mean_abs, tokens=tokens)


def stored_bytes(case: Case, model: torch.nn.Module) -> int:
    """Bytes of all parameters in the case's formats; a tied output projection counts once."""
    total = 0
    for name, parameter in model.named_parameters():
        if parameter.ndim != 2:
            total += 4 * parameter.numel()
            continue
        inside = ".layers." in name
        bits, block = (case.bits, case.block_size) if inside else (case.embedding_bits, case.embedding_block)
        if bits == 32 or (inside and case.algorithm == "none"):
            total += 4 * parameter.numel()
            continue
        symmetric = case.symmetric if inside else False
        form = BlockFormat(bits=bits, block_size=block, symmetric=symmetric, short_last_block=True)
        total += form.stored_bytes(*parameter.shape, layer=name)
    return total


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("checkpoint")
    parser.add_argument("--out", type=Path, required=True)
    parser.add_argument("--cases", default="", help="parts of case names, separated by semicolons; default all")
    parser.add_argument("--windows", type=int, default=32)
    parser.add_argument("--length", type=int, default=256)
    parser.add_argument("--perturb", type=float, default=0.0)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    import torch

    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    subject: Subject | None = None
    memory = PeakMemory()
    requested = [part for part in options.cases.split(";") if part]
    settings = {"windows": options.windows, "length": options.length, "perturb": options.perturb}
    report: dict[str, Any] = {"checkpoint": Path(options.checkpoint).name, "rows": []}
    if options.out.exists():
        report = json.loads(options.out.read_text(encoding="utf-8"))
    for case in cases():
        known = [row for row in report["rows"] if row["case"] == asdict(case) and row["settings"] == settings]
        if known or (requested and not any(part in case.name for part in requested)):
            continue
        if subject is None:
            subject = Subject(options.checkpoint, **settings)
        if needs_statistics(case):
            _ = subject.statistics  # their time is the collection's, not the first case's
        subject.reset()
        started, busy = time.perf_counter(), time.process_time()
        memory.reset()
        held = memory.read()
        apply(case, subject)
        seconds, cpu_seconds, peak = time.perf_counter() - started, time.process_time() - busy, memory.read()
        quality = subject.quality()
        row: dict[str, Any] = {
            "name": case.name,
            "case": asdict(case),
            "settings": settings,
            "megabytes": stored_bytes(case, subject.model) / 1e6,
            "seconds": seconds,
            "cpu_seconds": cpu_seconds,
            "added_bytes": peak - held,
            **quality,
        }
        report["rows"].append(row)
        options.out.write_text(json.dumps(report, indent=1) + "\n", encoding="utf-8")
        print(
            f"{case.name:62s} {row['megabytes']:6.1f} MB  KL {row['mean_kl']:.4f}  p99 {row['p99_kl']:.3f}  "
            f"top-1 {row['top1']:.4f}  ppl x{quality['perplexity_ratio']:.3f}  "
            f"{seconds:.0f} s ({cpu_seconds:.0f} s CPU)  +{(peak - held) / 1e6:.0f} MB",
            flush=True,
        )


if __name__ == "__main__":
    main()
