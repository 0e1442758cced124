"""The account of a checkpoint in words, from the record that a manifest has of it."""

from __future__ import annotations

from typing import Any


def describe_account(record: Any) -> list[str]:
    """One line for each kind of statement, then one for each group that is not plainly used; empty without a record."""
    if not isinstance(record, dict) or not isinstance(record.get("counts"), dict):
        return []
    lines = []
    for kind, counts in record["counts"].items():
        if isinstance(counts, dict):
            lines.append(f"{kind:10}  {', '.join(f'{count} {fate}' for fate, count in counts.items())}")
    named = record.get("named")
    for group in named if isinstance(named, list) else []:
        if not isinstance(group, dict) or not isinstance(group.get("names"), list):
            continue
        why = f": {group['why']}" if group.get("why") else ""
        lines.append(f"{group.get('fate')!s:10}  {', '.join(map(str, group['names']))}{why}")
    remarks = record.get("remarks")
    lines += [str(remark) for remark in remarks] if isinstance(remarks, list) else []
    patterns = record.get("ignore_weights")
    if isinstance(patterns, list) and patterns:
        lines.append(f"left out on request: {', '.join(map(str, patterns))}")
    return lines
