"""What an export would do, and what it would take, without doing it: weights are not read and nothing is written.

Options, place, texts and shapes are checked as the export checks them, so that what passes here fails there only for
what the weights hold.
"""

from __future__ import annotations

import textwrap
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import EMBEDDING, ONE_PASS_KINDS, PAIR_KINDS, ModelKind
from jisu.exporter.contract.errors import InputError
from jisu.exporter.estimates.disk_space import disk_space
from jisu.exporter.export_job import check_request, load_checkpoint, prepare_job
from jisu.exporter.request import ExportRequest, with_arguments_of

if TYPE_CHECKING:
    from jisu.exporter.estimates.cost_estimate import StageCost
    from jisu.exporter.estimates.size_estimate import SizeEstimate
    from jisu.exporter.gate.prompts import GatePrompts
    from jisu.exporter.gate.texts import GateTexts
    from jisu.exporter.precision.budget import Budget
    from jisu.exporter.sources.source import Source

_WIDTH = 110  # of a line
_MEGABYTE = 1e6
_FACTOR = 2
_LIMITS = {
    "max_mean_kl": "mean KL divergence at most {:g} nats",
    "max_p99_kl": "its 99th percentile at most {:g} nats",
    "min_top1": "the same most likely token for at least {:.1%}",
    "max_perplexity_ratio": "perplexity at most {:g} times the source's",
    "max_confident_changes": "at most {:.1%} of the confident choices changed",
    "max_average_kl": "mean over the domains at most {:g} nats",
}


@dataclass(frozen=True, kw_only=True)
class ExportEstimate:
    """Everything that is known of an export before it is begun.

    Attributes:
        model: architecture, parameters, layers.
        size: of the artifact, by format.
        passes: names of the recipe's steps in their order.
        calibration: text and windows; None where none is used.
        checks: what the gate will ask, in words.
        stages: seconds and peak memory, estimated.
        warnings: what the export will say beforehand.
        disk_needed, disk_free: bytes, at the place of the artifact.
    """

    checkpoint: str
    out: str
    target: str
    precision: str
    model: dict[str, Any]
    size: SizeEstimate
    passes: tuple[str, ...]
    calibration: dict[str, Any] | None
    checks: tuple[str, ...]
    stages: tuple[StageCost, ...]
    warnings: tuple[str, ...]
    disk_needed: int
    disk_free: int

    @property
    def seconds(self) -> float:
        return sum(stage.seconds for stage in self.stages)

    @property
    def peak_bytes(self) -> int:
        return max(stage.peak_bytes for stage in self.stages)

    def to_dict(self) -> dict[str, Any]:
        """Everything, with the totals, prepared for JSON."""
        size = {**asdict(self.size), "smallest": self.size.smallest_bytes, "largest": self.size.largest_bytes}
        return {**asdict(self), "size": size, "seconds": self.seconds, "peak_bytes": self.peak_bytes}

    def describe(self) -> str:
        """The estimate as text of several lines."""
        model, size = self.model, self.size
        parts = [
            (share.smallest_bytes, share.largest_bytes, f"{share.weights} x {share.label}") for share in size.shares
        ]
        parts += [
            (count, count, what)
            for what, count in (("tables of rotations", size.table_bytes), ("tokenizer", size.tokenizer_bytes))
            if count
        ]
        sections = {
            "model": [f"{model['architecture']}, {model['parameters']:,} parameters, {model['layers']} layers"],
            "artifact": [
                f"{_range(size.smallest_bytes, size.largest_bytes)} in {self.out}",
                *(f"{_range(low, high)}: {what}" for low, high, what in parts),
            ],
            **({"warning": list(self.warnings)} if self.warnings else {}),
            "passes": [", ".join(self.passes)],
            "calibration": [_describe_calibration(self.calibration)],
            "gate": list(self.checks),
            "time": [
                *(f"{stage.name}: {_between(stage.seconds)}, {_memory(stage.peak_bytes)}" for stage in self.stages),
                f"in all {_between(self.seconds)} at the speed that this machine has now, "
                f"{_memory(self.peak_bytes)} at the peak",
            ],
            "disk": [f"{_range(self.disk_needed, self.disk_needed)} needed, {self.disk_free / 1e9:.1f} GB free"],
        }
        lines = [f"{self.checkpoint} for {self.target} in {self.precision}; nothing is written"]
        for name, entries in sections.items():
            for index, entry in enumerate(entries):
                head = name if index == 0 else ""
                lines += textwrap.wrap(
                    entry, width=_WIDTH, initial_indent=f"{head:13}", subsequent_indent=" " * 15, break_on_hyphens=False
                )
        return "\n".join(lines)


def require_memory_of(estimate: ExportEstimate, limit: int | None) -> None:
    """Raise InputError when a stage is estimated to need more memory than is allowed, in bytes; None allows any."""
    highest = max(estimate.stages, key=lambda stage: stage.peak_bytes)
    if limit is not None and highest.peak_bytes > limit:
        raise InputError(
            f"The export needs more memory than --max-memory allows ({highest.name})",
            received=f"an estimate of {highest.peak_bytes / 1e9:.1f} GB",
            allowed=f"at most {limit / 1e9:.1f} GB",
            fix="Allow more, or choose a smaller precision or a larger --block-size; "
            "--dry-run shows what each stage needs.",
        )


@with_arguments_of(ExportRequest)
def estimate_export(request: ExportRequest) -> ExportEstimate:
    """Estimate an export from a checkpoint's configuration, tokenizer and header.

    Raises:
        InputError: whatever `exporter.pipeline.export` would find wrong before it computes anything.
    """
    from jisu.exporter.estimates.cost_estimate import estimate_cost
    from jisu.exporter.estimates.size_estimate import estimate_size
    from jisu.exporter.gate.prompts import gate_prompts
    from jisu.exporter.gate.texts import gate_texts

    held_out = check_request(request)
    source = load_checkpoint(request, outline=True)
    job = prepare_job(request, source, held_out)
    prepared, budget = job.prepared, job.precision.budget
    facts = source.model
    known = (source.tokenizer, facts.vocab_size, facts.max_positions)
    if source.model_kind in ONE_PASS_KINDS:
        checks = _one_pass_checks(gate_texts(*known, evaluation=held_out.requested), budget, source)
    else:
        checks = _checks(gate_prompts(*known, evaluation=held_out.requested), budget, source)
    size = estimate_size(source, prepared, target=request.target)
    needed, free = disk_space(request.folder, source, prepared, size)
    is_module = not isinstance(request.checkpoint, (str, Path))
    return ExportEstimate(
        checkpoint=source.model.architecture if is_module else str(request.checkpoint),
        out=str(request.out),
        target=request.target,
        precision=job.precision.name,
        model={
            "architecture": source.model.architecture,
            "parameters": source.model.parameters,
            "layers": source.model.layers,
        },
        size=size,
        passes=tuple(step.name for step in job.steps),
        calibration=None if prepared.data is None else prepared.data.record,
        checks=checks,
        stages=estimate_cost(source, prepared, size, limit=request.max_memory),
        warnings=(*source.notes, *source.account.notes(), *prepared.warnings),
        disk_needed=needed,
        disk_free=free,
    )


def _checks(prompts: GatePrompts, budget: Budget, source: Source) -> tuple[str, ...]:
    """What `exporter.gate` asks of the artifact, in words."""
    lengths = ", ".join(map(str, prompts.prefill_lengths))
    checks = [
        f"prefill of {lengths} tokens; {len(prompts.rows)} rows alone and as a batch; "
        f"{prompts.decode_steps} cached decode steps; chunks; rewinding"
    ]
    if prompts.far is not None:
        checks.append(f"the last of {len(prompts.far)} tokens")
    if budget.max_logit_error is not None:
        checks.append(f"logits within {budget.max_logit_error:g} standard deviations of the source's")
    if budget.same_greedy_tokens:
        checks.append(f"the same greedy tokens, {len(prompts.greedy)} x {prompts.greedy_steps}")
    limits = {key: getattr(budget, key) for key in _LIMITS}
    judged = [_LIMITS[key].format(value) for key, value in limits.items() if value is not None]
    if judged:
        domains = prompts.judged.domains
        where = f"the worst of {len(domains)} domains" if len(domains) > 1 else domains[0].name
        checks.append(f"on {where} of held-out text: {', '.join(judged)}")
    if source.tokenizer is not None:
        checks.append("tokenizer and chat template")
    return tuple(checks)


# What a model that reads whole texts answers, in the plural.
_ANSWERS: dict[ModelKind, str] = {
    EMBEDDING: "vectors",
    "token-classification": "tags",
    "fill-mask": "words at masked places",
    "question-answering": "answers",
}
_OF_VECTORS = {
    "min_cosine": "cosine with the source's vectors at least {:g}",
    "min_recall": "at least {:.1%} of the 10 nearest texts the source's",
}


def _one_pass_checks(texts: GateTexts, budget: Budget, source: Source) -> tuple[str, ...]:
    """What `exporter.gate.one_pass` asks of the artifact, in words."""
    kind = source.model_kind
    lengths = ", ".join(str(len(row)) for row in texts.alone)
    checks = [f"texts of {lengths} tokens alone; {len(texts.rows)} of unequal lengths as a batch"]
    answers = _ANSWERS.get(kind, "labels" if source.columns > 1 else "scores")
    on = f"on {len(texts.windows)} held-out texts{' and on pairs' if kind in PAIR_KINDS else ''}: "
    if budget.max_logit_error is not None:
        from jisu.exporter.gate.one_pass_exam import STRICT_ERROR

        what, limit = "vectors" if kind == EMBEDDING else "logits", min(STRICT_ERROR, budget.max_logit_error)
        checks.append(f"{what} within {limit:g} standard deviations of the source's")
        checks.append(f"{on}the same {answers}")
    else:
        named = _OF_VECTORS if kind == EMBEDDING else {key: _LIMITS[key] for key in ("max_mean_kl", "min_top1")}
        limits = {key: getattr(budget, key) for key in named}
        judged = [named[key].format(value) for key, value in limits.items() if value is not None]
        checks.append(on + ", ".join(judged).replace("most likely token", answers))
    if source.tokenizer is not None:
        checks.append("tokenizer")
    return tuple(checks)


def _describe_calibration(record: dict[str, Any] | None) -> str:
    if record is None:
        return "none"
    return f"{record['windows']} windows of {record['window_tokens']} tokens from {record['text']}"


def _range(smallest: int, largest: int) -> str:
    low, high = f"{smallest / _MEGABYTE:,.1f}", f"{largest / _MEGABYTE:,.1f}"
    return f"{low} MB" if low == high else f"{low} to {high} MB"


def _memory(size: int) -> str:
    return f"{size / 1e9:.1f} GB of memory"


def _between(seconds: float) -> str:
    """A time as the estimate knows it: right to a factor of two, see `exporter.estimates.cost_estimate`."""
    return f"{_duration(seconds / _FACTOR)} to {_duration(seconds * _FACTOR)}"


def _duration(seconds: float) -> str:
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:.1f} h"
