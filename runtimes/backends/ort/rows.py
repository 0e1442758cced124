"""One call of a classifier's graph, on any provider."""

from __future__ import annotations

from typing import Any

from jisu.exporter.contract.backend import Logits, TokenIds
from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS, LOGITS, Signature


def run_rows(session: Any, signature: Signature, ids: TokenIds, mask: TokenIds) -> Logits:
    """Logits [B, labels] of a graph from ``input_ids`` and, where it has one, ``attention_mask``; int64 [B, T] each."""
    feeds = {INPUT_IDS: ids, **({ATTENTION_MASK: mask} if signature.has_input(ATTENTION_MASK) else {})}
    logits: Logits = session.run([LOGITS], feeds)[0]
    return logits
