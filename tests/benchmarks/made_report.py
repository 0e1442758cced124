"""A report as `jisu compare` makes it, with figures that a test can recognize, and no two of them alike."""

from __future__ import annotations

from typing import Any

from jisu.benchmarks.compare.figures import QUANTILES
from jisu.benchmarks.compare.summary import summarize
from jisu.benchmarks.report.schema import KIND, SCHEMA_VERSION


def made_report(**rows: dict[str, Any]) -> dict[str, Any]:
    """A report of three rows: ``fp32``, ``int8`` and ``broken``, which failed; keywords change rows by name."""
    made = [made_row("fp32", speed=50.0, kl=0.0), made_row("int8", speed=120.0, kl=0.0054), failed_row("broken")]
    for row in made:
        row |= rows.get(row["name"], {})
    return {
        "kind": KIND,
        "schema_version": SCHEMA_VERSION,
        "created": "2026-11-25T10:00:00Z",
        "command": "jisu compare build/fp32 build/int8",
        "machine": {
            "processor": "Quick <b>CPU</b> 9000",
            "design": "vendor_id AuthenticAMD, cpu family 25, model 1, stepping 1",
            "features": ["avx2"],
            "loops_per_s": 100.0,
            "cores": 2,
            "memory_bytes": 25_000_000_000,
            "system": "Linux x86_64",
            "python": "3.11.7",
            "load": [0.31, 0.32, 0.33],
        },
        "versions": {"onnxruntime": "1.32.0"},
        "settings": {"trials": 5, "threads": 2, "time_limit_s": 300.0},
        "read_bandwidth_bytes_per_s": 27.3e9,
        "workloads": [
            {"name": "short-chat", "prompt_tokens": 32, "new_tokens": 64, "batch": 1, "grounded": False},
            {"name": "long-prompt", "prompt_tokens": 512, "new_tokens": 16, "batch": 1, "grounded": False},
        ],
        "skipped_workloads": {"batch-8": "it has no room"},
        "missing_peers": {"llama.cpp F16": "llama_cpp is not installed; install it with: pip install it"},
        "reference": {"name": "source", "description": "Llama in torch", "problems": []},
        "verdict": None,
        "rows": made,
        "pareto": [0, 1],
    }


def made_row(name: str, *, speed: float, kl: float) -> dict[str, Any]:
    check = {"name": "finite", "passed": True, "value": 0, "limit": 0, "unit": "logits", "detail": "All are."}
    size = int(54e6 * 100 / speed)
    return {
        "name": name,
        "failure": None,
        "engine": "jisu",
        "size_bytes": size,
        "export_seconds": 20.5,
        "version": "jisu 0.1.0",
        "settings": "ort-cpu, 2 threads",
        "gate": {"accepted": True, "checks": [check]},
        "formats": [{"format": {"bits": 8, "block_size": 32, "symmetric": True}, "layers": 182}],
        "sensitivity": [
            {
                "layers": "model.layers.0.mlp.gate_proj, model.layers.0.mlp.up_proj",
                "format": "int4",
                "kl": 0.00123,
                "bytes": 345_678,
                "others": [{"format": "int8", "kl": 0.0000456, "bytes": 654_321}],
            }
        ],
        "operators": [
            {"operator": "MatMulNBits", "nodes": 121, "s": 0.61 / speed, "share": 0.61},
            {"operator": "GroupQueryAttention", "nodes": 30, "s": 0.27 / speed, "share": 0.27},
            {"operator": "SkipSimplifiedLayerNormalization", "nodes": 60, "s": 0.12 / speed, "share": 0.12},
        ],
        "load_s": 1.25 + kl,
        "peak_bytes": 3 * size + 1234567,
        "resident_bytes": 2 * size,
        "gpu_bytes": None,
        "measured": {"short-chat": made_figures(speed), "long-prompt": made_figures(1.1 * speed)},
        "quality": {
            "sets": {
                "prose": {
                    "mean_kl": kl,
                    "p99_kl": 9.1 * kl,
                    "top1": 1 - 7.7 * kl,
                    "perplexity": 21.03 + kl,
                    "reference_perplexity": 21.03,
                    "perplexity_ratio": 1 + kl / 21.03,
                    "tokens": 2040,
                    "near_ties": 3,
                }
            },
            "greedy": {
                "tokens": 96,
                "agreement": 1 - kl,
                "near_ties": 1,
                "first_divergence": {"prompt": 2, "step": 17, "logit_gap": 0.213} if kl else None,
            },
            "reason": None,
        },
    }


def failed_row(name: str) -> dict[str, Any]:
    return {
        "name": name,
        "failure": "short-chat: the process was ended by signal 9",
        "engine": "jisu",
        "size_bytes": 1,
        "version": None,
        "settings": None,
        "load_s": None,
        "peak_bytes": None,
        "measured": {},
        "quality": None,
    }


def made_figures(speed: float) -> dict[str, Any]:
    """Five trials with a spread of four per cent to both sides."""

    def spread(value: float) -> dict[str, Any]:
        return summarize([value * factor for factor in (0.96, 0.98, 1.0, 1.02, 1.04)]).to_dict()

    step = 1 / speed
    return {
        "time_to_first_token_s": spread(3.3 * step),
        "prefill_tokens_per_s": spread(15.5 * speed),
        "decode_tokens_per_s": spread(speed),
        "end_to_end_s": spread(64 * step),
        "inter_token_s": {"p50": spread(0.99 * step), "p90": spread(1.3 * step), "p99": spread(2.1 * step)},
        "inter_token_quantiles_s": [[share, step * (0.9 + share)] for share in QUANTILES],
        "joules_per_token": spread(0.41 * step),
        "bytes_per_token": 101e6 + speed,
        "gb_per_s": 0.101 * speed,
        "share_of_bandwidth": 0.0037 * speed,
    }


def made_reading_report() -> dict[str, Any]:
    """The same three rows of an embedding model: ``int8`` is faster and finds a little less."""
    report = made_report()
    report["task"] = "feature-extraction"
    shapes = {"short-text": (16, 1), "long-text": (256, 1)}
    report["workloads"] = [
        {"name": name, "prompt_tokens": tokens, "new_tokens": 0, "batch": batch, "grounded": False, "calls": 32}
        for name, (tokens, batch) in shapes.items()
    ]
    for row, speed, recall in zip(report["rows"], (150.0, 320.0), (1.0, 0.986), strict=False):
        row["operators"], row["sensitivity"] = None, None
        row["measured"] = {"short-text": made_reading(speed), "long-text": made_reading(speed / 7)}
        figures = {"least_cosine": 1 - (1 - recall) / 10, "mean_cosine": 1 - (1 - recall) / 30, "texts": 6}
        row["quality"] = {
            "sets": {"prose": {**figures, "judges": True}},
            "worst": {"domain": "prose", **figures},
            "average": {"mean_cosine": figures["mean_cosine"], "domains": 1, "texts": 6},
            "ranking": {
                "recall_at_10": recall,
                "rank_correlation": 1 - (1 - recall) / 20,
                "queries": 66,
                "texts": 264,
                "intervals": {"recall_at_10": [recall - 0.004, recall]},
            },
            "greedy": None,
            "reason": None,
        }
    return report


def made_reading(speed: float) -> dict[str, Any]:
    """Five trials of whole texts with a spread of four per cent to both sides."""

    def spread(value: float) -> dict[str, Any]:
        return summarize([value * factor for factor in (0.96, 0.98, 1.0, 1.02, 1.04)]).to_dict()

    return {
        "texts_per_s": spread(speed),
        "latency_s": {name: spread(factor / speed) for name, factor in (("p50", 1.0), ("p90", 1.2), ("p99", 1.7))},
        "latency_quantiles_s": [[share, (0.9 + share) / speed] for share in QUANTILES],
        "joules_per_text": None,
    }
