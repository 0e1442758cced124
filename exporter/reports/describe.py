"""An artifact in words: what is in it, what was verified, where it came from, and what was done to the graph.

It reads the manifest and judges nothing; records of an older or newer make are shown as far as they are understood.
"""

from __future__ import annotations

import json
from typing import Any

from jisu.exporter.contract.artifact import TIMINGS, Artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.generation_settings import read_generation_settings
from jisu.exporter.contract.signature import StateSpec, TensorSpec
from jisu.exporter.estimates.advice import advice_of
from jisu.exporter.reports.describe_account import describe_account
from jisu.exporter.reports.describe_quality import describe_quality
from jisu.exporter.reports.describe_quantization import describe_quantization

_KERNELS = {"any": "right on every CPU", "vnni": "right on CPUs with VNNI, AMX, or of Arm; refused on others"}
_LONGEST_VALUE = 80  # characters of a setting


def artifact_to_dict(artifact: Artifact) -> dict[str, Any]:
    """Folder, total bytes, the whole manifest and the model's generation settings, ready for JSON."""
    settings = read_generation_settings(artifact.folder)
    return {
        "folder": str(artifact.folder),
        "size": artifact.size,
        "manifest": artifact.manifest.to_dict(),
        "generation_settings": settings,
    }


def describe_artifact(artifact: Artifact, *, hashes_checked: bool = False) -> str:
    """The artifact as text of several sections, ending in a newline.

    Args:
        artifact: what to describe.
        hashes_checked: whether the files were compared with their SHA-256, which is then said, and the hashes shown.
    """
    manifest = artifact.manifest
    model = manifest.model
    account = describe_account(manifest.source.get("account"))
    positions = "no limit" if model.max_positions is None else f"{model.max_positions:,}"
    sections = [
        [
            f"{artifact.folder}",
            f"  model kind    {manifest.model_kind}",
            f"  target        {manifest.target}",
            f"  precision     {manifest.precision}",
            *([f"  kernels       {_KERNELS.get(manifest.kernels, manifest.kernels)}"] if manifest.kernels else []),
            f"  architecture  {model.architecture}",
            f"  parameters    {model.parameters:,}",
            f"  layers        {model.layers}",
            f"  vocabulary    {model.vocab_size:,}",
            f"  positions     {positions}",
            f"  schema        {manifest.schema_version}",
            *([f"  labels        {', '.join(model.labels)}"] if model.labels else []),
        ],
        _describe_files(artifact, hashes_checked=hashes_checked),
        _describe_signature(artifact),
        _describe_gate(manifest.gate),
        *(
            [["Quantization", *(f"  {line}" for line in describe_quantization(manifest.quantization))]]
            if manifest.quantization
            else []
        ),
        *_describe_advice(artifact),
        *_describe_generation(artifact),
        ["Source", *(f"  {line}" for line in _lines(_without_account(manifest.source)))],
        *([["Account of the checkpoint", *(f"  {line}" for line in account)]] if account else []),
        ["Recipe", *_describe_recipe(manifest.recipe)],
        ["Written with", *(f"  {line}" for line in _lines(manifest.versions))],
    ]
    return "\n\n".join("\n".join(section) for section in sections) + "\n"


def _describe_files(artifact: Artifact, *, hashes_checked: bool) -> list[str]:
    files = artifact.manifest.files
    width = max((len(name) for name in files), default=0)
    checked = "sizes and SHA-256 checked" if hashes_checked else "sizes checked"
    lines = [f"Files ({size_in_words(artifact.size)}, {checked})"]
    for name, record in files.items():
        digest = f"  {record.sha256}" if hashes_checked else ""
        lines.append(f"  {name:{width}}  {size_in_words(record.size):>12}{digest}")
    return lines


def _describe_signature(artifact: Artifact) -> list[str]:
    signature = artifact.manifest.signature
    lines = ["Signature"]
    lines += [f"  in     {_describe_tensor(spec)}" for spec in signature.inputs]
    lines += [f"  heard  {_describe_tensor(spec)}" for spec in signature.heard]
    lines += [f"  out    {_describe_tensor(spec)}" for spec in signature.outputs]
    # Every layer has the same tensors, so that one line stands for all of one shape.
    groups: dict[tuple[str, str, tuple[int | str, ...]], list[StateSpec]] = {}
    for state in signature.state:
        groups.setdefault((state.kind, state.dtype, state.dims), []).append(state)
    for (kind, dtype, dims), states in groups.items():
        names = states[0].past if len(states) == 1 else f"{states[0].past} ... {states[-1].past}"
        lines.append(f"  state  {len(states)} x {kind} {dtype} {_describe_dims(dims)}: {names}")
    return lines


def _describe_tensor(spec: TensorSpec) -> str:
    return f"{spec.name} {spec.dtype} {_describe_dims(spec.dims)}"


def _describe_dims(dims: tuple[int | str, ...]) -> str:
    return f"[{', '.join(map(str, dims))}]"


def _describe_gate(gate: dict[str, Any]) -> list[str]:
    if not gate:
        return ["Gate: no record; this artifact was not verified"]
    verdict = "accepted" if gate.get("accepted") is True else "NOT ACCEPTED"
    where = f" ({gate['where']})" if gate.get("where") else ""
    lines = [f"Gate: {verdict}{where}, against {gate.get('reference', 'unknown')}"]
    ran_on = gate.get("ran_on")
    if isinstance(ran_on, dict):
        lines.append(
            f"  verified on  {ran_on.get('backend')} ({ran_on.get('version')}), by running {ran_on.get('graph')}"
        )
    checks = gate.get("checks", [])
    width = max((len(str(check.get("name"))) for check in checks), default=0)
    for check in checks:
        word = "passed" if check.get("passed") is True else "FAILED"
        parts = [f"  {word}  {check.get('name')!s:{width}}", _measured(check), check.get("detail") or ""]
        lines.append("  ".join(part for part in parts if part).rstrip())
    lines += [f"  {note}" for note in gate.get("notes", [])]
    if table := describe_quality(gate):
        lines += ["  Held-out text, in nats:", *(f"    {line}" for line in table)]
    return lines


def _describe_advice(artifact: Artifact) -> list[list[str]]:
    """What was measured where it was exported; no section where nothing was, or the file is gone or not ours."""
    try:
        record = json.loads((artifact.folder / TIMINGS).read_text(encoding="utf-8"))["advice"]
        lines = advice_of(record).describe()
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return []
    return [["Speed where it was exported", *(f"  {line}" for line in lines)]]


def _describe_generation(artifact: Artifact) -> list[list[str]]:
    """The model's own generation settings; no section where it has none, or their file cannot be read."""
    try:
        settings = read_generation_settings(artifact.folder)
    except InputError:
        return []
    lines = [f"  {name}: {_shortened(json.dumps(value))}" for name, value in sorted(settings.items())]
    return [["Generation settings of the model, followed unless an option says otherwise", *lines]] if lines else []


def _shortened(text: str) -> str:
    return text if len(text) <= _LONGEST_VALUE else f"{text[:_LONGEST_VALUE]}..."


def _measured(check: dict[str, Any]) -> str:
    """Value and limit, `2.9e-05 of 0.002`; a value that only repeats its limit says nothing."""
    value, limit, unit = check.get("value"), check.get("limit"), check.get("unit") or ""
    if value is None or value == limit:
        return ""
    measured = _number(value) if limit is None else f"{_number(value)} (limit {_number(limit)})"
    return f"{measured} {unit}".rstrip()


def _describe_recipe(recipe: list[dict[str, Any]]) -> list[str]:
    if not recipe:
        return ["  no passes"]
    rows = []
    for step in recipe:
        rest = dict(step)
        name = str(rest.pop("name", None) or rest.pop("pass", "unnamed"))
        count = rest.pop("count", "unknown")
        rows.append((name, str(count), ", ".join(f"{key} {_number(value)}" for key, value in rest.items())))
    width = max(len(name) for name, _, _ in rows)
    counts = max(len(count) for _, count, _ in rows)
    return [f"  {name:{width}}  {count:>{counts}}  {rest}".rstrip() for name, count, rest in rows]


def _without_account(source: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in source.items() if key != "account"}


def _lines(record: dict[str, Any], prefix: str = "") -> list[str]:
    """A nested record as one ``key: value`` line for each leaf."""
    lines = []
    for key, value in record.items():
        name = f"{prefix}{key}"
        if isinstance(value, dict):
            lines += _lines(value, f"{name}.")
        elif isinstance(value, list) and value:
            lines.append(f"{name}: {', '.join(map(str, value))}")
        elif value not in (None, []):
            lines.append(f"{name}: {value}")
    return lines or ([] if prefix else ["not recorded"])


def _number(value: Any) -> str:
    return f"{value:.4g}" if isinstance(value, float) else str(value)


def size_in_words(size: int) -> str:
    """Bytes, or MB with the digits that matter."""
    if size >= 10_000_000:
        return f"{size / 1e6:,.0f} MB"
    return f"{size / 1e6:,.1f} MB" if size >= 100_000 else f"{size:,} bytes"
