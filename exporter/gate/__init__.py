"""Decides whether an exported model is the model it was made from; nothing is published that it rejects."""

from __future__ import annotations

from exporter.gate.budget import FP32_BUDGET, Budget, quality_budget
from exporter.gate.prompts import GatePrompts, gate_prompts
from exporter.gate.result import Check, GateResult
from exporter.gate.run import run_gate

__all__ = [
    "FP32_BUDGET",
    "Budget",
    "Check",
    "GatePrompts",
    "GateResult",
    "gate_prompts",
    "quality_budget",
    "run_gate",
]
