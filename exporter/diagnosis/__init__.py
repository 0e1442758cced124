"""Finds where a graph diverges from the model it was made from: in which layer and operators, at which token."""

from jisu.exporter.diagnosis.diagnose import diagnose
from jisu.exporter.diagnosis.finding import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
