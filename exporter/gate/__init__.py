"""Decides whether an exported model is the model it was made from; nothing is published that it rejects.

Which file makes which check: ``vocabulary`` and ``finite`` run; ``prefill-N`` and ``batch-N`` prefill; ``batch-17``
wide_batch; ``decode``, ``decode-without-cache``, ``chunked-prefill`` and ``rewind`` cache; ``far-positions``,
``long-call`` and ``whole-range`` positions, of integers unrounded_range, too; ``greedy`` greedy; ``mean-kl`` and the
other figures domain_quality; ``tokenizer`` and its like tokenizer; ``stored-weights`` weights and half; ``folder`` and
``signature`` folder; ``float-weights``, ``position-tables``, ``int8-sums``, ``model-facts`` the files of their names.
"""

from __future__ import annotations

from jisu.exporter.gate.one_pass import run_one_pass_gate
from jisu.exporter.gate.prompts import GatePrompts, gate_prompts
from jisu.exporter.gate.result import Check, GateResult
from jisu.exporter.gate.run import run_gate
from jisu.exporter.gate.texts import GateTexts, gate_texts
from jisu.exporter.precision.budget import FP32_BUDGET, Budget, quality_budget

__all__ = [
    "FP32_BUDGET",
    "Budget",
    "Check",
    "GatePrompts",
    "GateResult",
    "GateTexts",
    "gate_prompts",
    "gate_texts",
    "quality_budget",
    "run_gate",
    "run_one_pass_gate",
]
