"""Finds where a graph diverges from the model it was made from: in which layer and operators, at which token."""

from exporter.diagnosis.diagnose import diagnose
from exporter.diagnosis.finding import Diagnosis, Finding

__all__ = ["Diagnosis", "Finding", "diagnose"]
