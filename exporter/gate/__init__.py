"""Decides whether an exported model is the model it was made from; nothing is published that it rejects."""

from __future__ import annotations

from jisu.exporter.gate.classification import run_classifier_gate
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
    "run_classifier_gate",
    "run_gate",
]
