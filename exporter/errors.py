"""The errors of `exporter.contract.errors`, at the place that earlier versions had them; `import jisu` has them too."""

from __future__ import annotations

from jisu.exporter.contract.errors import GateRejectedError, InputError, JisuError, MissingDependencyError

__all__ = ["GateRejectedError", "InputError", "JisuError", "MissingDependencyError"]
