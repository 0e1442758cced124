"""The four packages under the names of their folders, ``exporter``, ``runtimes`` and so on, as in a clone.

A wheel has them below ``jisu`` alone. Where the repository's root is on the path, ``import runtimes.engine`` gives the
very module that ``import jisu.runtimes.engine`` gives: two copies would have two ``InputError``.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import InspectLoader, MetaPathFinder
from importlib.machinery import ModuleSpec
from importlib.util import find_spec
from types import CodeType, ModuleType

FOLDERS = ("exporter", "runtimes", "calibration", "benchmarks")


class _SameModules(MetaPathFinder, InspectLoader):
    """Finds ``folder.x`` as the module ``jisu.folder.x``."""

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> ModuleSpec | None:
        package, _, rest = fullname.partition(".")
        if package not in FOLDERS or not rest:
            return None
        real = find_spec(f"jisu.{fullname}")
        if real is None:
            return None
        spec = ModuleSpec(fullname, self, origin=real.origin, is_package=real.submodule_search_locations is not None)
        spec.loader_state = real
        return spec

    def create_module(self, spec: ModuleSpec) -> ModuleType:
        return importlib.import_module(f"jisu.{spec.name}")

    def exec_module(self, module: ModuleType) -> None:
        """Give the module its own specification back: the import system has just put this finder's in its place."""
        module.__spec__ = find_spec(module.__name__) if module.__spec__ is None else module.__spec__.loader_state

    def get_code(self, fullname: str) -> CodeType | None:
        """What ``python -m benchmarks.robustness`` runs."""
        real = find_spec(f"jisu.{fullname}")
        assert real is not None and isinstance(real.loader, InspectLoader), "find_spec found it"
        return real.loader.get_code(real.name)

    def get_source(self, fullname: str) -> str | None:
        real = find_spec(f"jisu.{fullname}")
        return real.loader.get_source(real.name) if real and isinstance(real.loader, InspectLoader) else None

    def is_package(self, fullname: str) -> bool:
        real = find_spec(f"jisu.{fullname}")
        return real is not None and real.submodule_search_locations is not None


def use_folder_name(name: str) -> None:
    """Make ``name``, a folder's, stand for ``jisu.name`` from now on; called by the folder's own ``__init__.py``."""
    if not any(isinstance(finder, _SameModules) for finder in sys.meta_path):
        sys.meta_path.insert(0, _SameModules())
    sys.modules[name] = importlib.import_module(f"jisu.{name}")
