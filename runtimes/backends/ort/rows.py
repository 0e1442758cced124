"""One call of a graph that reads whole texts, on any provider."""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.backend import Logits, TokenIds


def run_rows(session: Any, output: str, feeds: dict[str, TokenIds]) -> Logits:
    """One output of a graph, [B, N] or [B, T, N], from its inputs, int64 [B, T] each; others are not computed."""
    logits: Logits = session.run([output], feeds)[0]
    return logits
