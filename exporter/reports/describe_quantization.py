"""The quantization of an artifact in words: formats, algorithm, and for mixed precision the choice for every layer.

It reads a manifest's record; what it does not know is shown as it stands.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Any

_ALGORITHMS = {
    "rtn": "rounded to the nearest, scales of least squared error",
    "balanced": "rounded to the nearest, channels of inputs and weights balanced",
    "gptq": "GPTQ, channel scales found by AWQ",
    "smoothquant": "weights and inputs in 8 bits, ranges moved between them where that helps",
    "grid": "the grid that the weights lie on already, nothing rounded anew",
    "kept": "the integers of the checkpoint itself",
}
_SHOWN = 3  # names of weights, where there are many
_KNOWN = (
    "algorithm",
    "formats",
    "types",
    "notes",
    "mix",
    "products",
    "balanced",
    "unreached",
    "calibration",
    "statistics",
    "budget",
)


def describe_quantization(record: dict[str, Any]) -> list[str]:
    """One line for each fact, without indentation."""
    lines = []
    if "algorithm" in record:
        lines.append(f"algorithm     {_ALGORITHMS.get(record['algorithm'], record['algorithm'])}")
    if isinstance(record.get("format"), str):
        lines.append(f"format        {record['format']}")
    lines += [f"format        {line}" for line in _formats(record.get("formats", []))]
    lines += [f"format        {line}" for line in _types(record.get("types", {}))]
    lines += [f"note          {note}" for note in record.get("notes", [])]
    if isinstance(record.get("products"), dict):
        from jisu.exporter.quantization.w8a8 import describe_products

        lines += [f"note          {line}" for line in describe_products(record["products"])]
    if isinstance(record.get("unreached"), list):
        from jisu.exporter.quantization.unreached import describe_unreached

        lines.append(f"note          {describe_unreached(record['unreached'])}.")
    if isinstance(record.get("balanced"), dict):
        from jisu.exporter.quantization.balanced_layers import describe_balanced

        lines.append(f"balanced      {describe_balanced(record['balanced'])}")
    if isinstance(record.get("calibration"), dict):
        lines += [f"calibration   {line}" for line in _calibration(record["calibration"])]
    if "statistics" in record:
        lines.append(f"statistics    {record['statistics']}")
    limits = {key: value for key, value in record.get("budget", {}).items() if value not in (None, False)}
    if limits:
        lines.append(f"budget        {', '.join(f'{key} {value:g}' for key, value in limits.items())}")
    more = {key: value for key, value in record.items() if key not in (*_KNOWN, "format")}
    lines += [f"{key:13} {value}" for key, value in more.items()]
    return lines + (_mixed(record["mix"]) if isinstance(record.get("mix"), dict) else [])


def _formats(formats: Sequence[dict[str, Any]]) -> list[str]:
    lines = []
    for entry in formats:
        form = entry["format"]
        if form is None:
            words = "float32"
        elif set(form) == {"bits"}:
            words = f"{form['bits']} bits, one scale a row"
        elif "sums" in form:
            words = f"{form['bits']} bits in blocks of {form['block_size']}, the checkpoint's own"
        elif "static" in form:
            words = "8 bits, one scale a row, inputs " + ("of a calibrated range" if form["static"] else "each its own")
        else:
            kind = "symmetric" if form["symmetric"] else "with zero points"
            where = f"in blocks of {form['block_size']}" if form["block_size"] else "with one scale a row"
            words = f"{form['bits']} bits {where}, {kind}"
        lines.append(f"{words}: {_names(entry['names'])}")
    return lines


def _types(types: dict[str, Any]) -> list[str]:
    lines = []
    for kind, kept in types.items():
        how = "bit for bit" if kept["exact"] else f"off by {kept['rms_error']:.2%} (rms)"
        lines.append(f"{kept['weights']} weights of type {kind} as {kept['stored']}, {how}")
    return lines


def _names(names: Sequence[str]) -> str:
    """``210 weights: model.layers.*.mlp.down_proj, ...``; layers that differ by a number alone are one name."""
    patterns = list(dict.fromkeys(re.sub(r"\.\d+\.", ".*.", name) for name in names))
    more = f" and {len(patterns) - _SHOWN} more" if len(patterns) > _SHOWN else ""
    return f"{len(names)} weights, {', '.join(patterns[:_SHOWN])}{more}"


def _calibration(record: dict[str, Any]) -> list[str]:
    """How many windows of what; a line for each part of a mixture, with its notes and what was left out."""
    known = f"{record.get('windows', '?')} windows of {record.get('window_tokens', '?')} tokens"
    lines = [f"{known}, seed {record.get('seed', '?')}, of {record.get('text', 'an unknown text')}"]
    for entry in record.get("made_of", []):
        words = f"{entry['share']:.0%} {entry['part']}"
        texts = [text["text"] for text in entry.get("texts", [])]
        if texts:
            words += f": {', '.join(texts[:_SHOWN])}{f' and {len(texts) - _SHOWN} more' if len(texts) > _SHOWN else ''}"
        lines.append(words + (f" ({entry['note']})" if "note" in entry else ""))
    return lines + [f"without {reason}" for reason in record.get("left_out", [])]


def _mixed(mixed: dict[str, Any]) -> list[str]:
    """Goal, tries and a table: what each unit got, what that costs, and what the next smaller format would cost."""
    goal = ", ".join(f"{key} {value:,}" for key, value in mixed["goal"].items())
    lines = [
        f"goal          {goal}",
        f"measured      {mixed['measured_kl']:.4g} nats on calibration text; {mixed['predicted_kl']:.4g} predicted",
    ]
    for number, entry in enumerate(mixed["tries"]):
        units = ", ".join(f"{count} {label}" for label, count in entry["units"].items())
        lines.append(f"try {number:<9} {entry['kl']:.4g} nats in {entry['bytes'] / 1e6:.1f} MB: {units}")
    width = max(len(_unit_name(unit)) for unit in mixed["units"])
    lines.append(f"{'unit':{width}}  {'format':12}  {'nats':>8}  {'MB':>6}  next smaller")
    for unit in mixed["units"]:
        chosen = unit["format"]
        size = unit["bytes"][chosen]
        smaller = {label: other for label, other in unit["bytes"].items() if other < size}
        after = ""
        if smaller:
            label = max(smaller, key=lambda name: smaller[name])
            after = f"{label}: {max(0.0, unit['kl'][label]):.1e} nats, {smaller[label] / 1e6:.2f} MB"
        kl = max(0.0, unit["kl"][chosen])
        line = f"{_unit_name(unit):{width}}  {chosen:12}  {kl:8.1e}  {size / 1e6:6.2f}  {after}"
        lines.append(line.rstrip())
    return lines


def _unit_name(unit: dict[str, Any]) -> str:
    names = unit["names"]
    parts = [name.rsplit(".", 1)[-1] for name in names[1:]]
    return "/".join([names[0], *parts])
