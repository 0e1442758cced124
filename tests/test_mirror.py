"""Tests mirror the paths, both ways: a module has its test file where its path says, and a test file its module.

What has not says why in `tests/support/tested_through.py`; that list is held to the truth as well.
"""

from __future__ import annotations

import ast
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.support.source_imports import named_modules
from tests.support.tested_through import NOT_TESTED, RUN_BY_NAME, TESTED_THROUGH, WITHOUT_MODULE

ROOT = Path(__file__).parent.parent
PACKAGES = ("calibration", "exporter", "runtimes", "benchmarks")
# Folders of tests of whole programs, of examples, and of what tests are written with.
FREE_FOLDERS = ("examples", "scenarios", "stand_in_gpu", "support")
# A test reaches a module that it names, or that is named by something it names, and so on for this many steps.
STEPS = 3


def modules(root: Path = ROOT) -> list[str]:
    """Paths of the modules that need a test file; what a package's ``__init__.py`` holds is names."""
    files = [*(path for package in PACKAGES for path in (root / package).rglob("*.py")), *(root / "jisu").glob("*.py")]
    return sorted(path.relative_to(root).as_posix() for path in files if path.name != "__init__.py")


def test_path(module: str) -> str:
    """``a/test_b.py`` of ``a/b.py``, below ``tests``."""
    path = Path(module)
    return path.with_name(f"test_{path.name}").as_posix()


test_path.__test__ = False  # type: ignore[attr-defined]


def listed() -> list[str]:
    """Modules that say why they have no test file of their own."""
    return [*(module for group in TESTED_THROUGH.values() for module in group), *NOT_TESTED]


def untested(root: Path, excused: list[str]) -> list[str]:
    """Modules without a test file at their mirrored path that give no reason either."""
    return [one for one in modules(root) if one not in excused and not (root / "tests" / test_path(one)).is_file()]


def is_mirrored(test: Path, root: Path = ROOT) -> bool:
    """Whether ``tests/a/test_b.py`` has a module ``a/b.py``, or lies where tests of no module do."""
    relative = test.relative_to(root / "tests")
    if relative.parts[0] in FREE_FOLDERS or relative.as_posix() in WITHOUT_MODULE:
        return True
    return (root / relative.parent / test.name.removeprefix("test_")).is_file()


def references(root: Path = ROOT) -> dict[str, set[str]]:
    """Path of each of our modules -> paths of those that it names in any way."""
    files = [*(path for package in PACKAGES for path in (root / package).rglob("*.py")), *(root / "jisu").glob("*.py")]
    paths = {_dotted(path, root): path.relative_to(root).as_posix() for path in files}
    return {
        path.relative_to(root).as_posix(): {paths[name] for _, name in named_modules(_parsed(path), paths)}
        for path in files
    }


def reached(test: Path, graph: Mapping[str, set[str]], root: Path = ROOT) -> set[str]:
    """Paths of the modules that a test file is about: its own one, those it names, and what those name in turn."""
    paths = {_dotted(root / path, root): path for path in graph}
    own = (test.relative_to(root / "tests").parent / test.name.removeprefix("test_")).as_posix()
    actual = {paths[name] for _, name in named_modules(_parsed(test), paths)} | ({own} & set(graph))
    front = actual
    for _ in range(STEPS):
        front = {name for one in front for name in graph[one]} - actual
        actual = actual | front
    return actual


def _dotted(path: Path, root: Path) -> str:
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def _parsed(path: Path) -> ast.AST:
    return ast.parse(path.read_text(encoding="utf-8"))


@pytest.fixture(scope="module")
def graph() -> dict[str, set[str]]:
    actual = references()
    for module, runner in RUN_BY_NAME.items():
        assert f'"{Path(module).stem}"' in (ROOT / runner).read_text(encoding="utf-8")
        actual[runner] = actual[runner] | {module}
    return actual


def test_each_module_has_its_test_file_or_a_reason() -> None:
    assert untested(ROOT, listed()) == []


@pytest.mark.parametrize(
    "test", sorted((ROOT / "tests").rglob("test_*.py")), ids=lambda path: path.relative_to(ROOT).as_posix()
)
def test_each_test_lies_where_its_module_does(test: Path) -> None:
    assert is_mirrored(test), f"no module for {test.relative_to(ROOT)}"


def test_no_reason_is_out_of_date() -> None:
    known = modules()
    assert [one for one in listed() if one not in known or (ROOT / "tests" / test_path(one)).is_file()] == []
    assert len(listed()) == len(set(listed()))
    assert [one for one in (*TESTED_THROUGH, *WITHOUT_MODULE) if not (ROOT / "tests" / one).is_file()] == []


@pytest.mark.parametrize("test", sorted(TESTED_THROUGH))
def test_a_named_test_reaches_what_is_tested_through_it(test: str, graph: dict[str, set[str]]) -> None:
    assert set(TESTED_THROUGH[test]) - reached(ROOT / "tests" / test, graph) == set()


def test_planted_files_out_of_place_are_found(tmp_path: Path) -> None:
    for where, text in (
        ("jisu/door.py", ""),
        ("tests/jisu/test_door.py", ""),
        ("exporter/a.py", "from exporter import b"),
        ("exporter/b.py", ""),
        ("exporter/c.py", ""),
        ("tests/exporter/test_a.py", ""),
        ("tests/exporter/test_d.py", ""),
        ("tests/scenarios/test_e.py", "import exporter.a"),
    ):
        path = tmp_path / where
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text, encoding="utf-8")
    assert untested(tmp_path, ["exporter/b.py"]) == ["exporter/c.py"]
    lying = {path.name: is_mirrored(path, tmp_path) for path in (tmp_path / "tests").rglob("test_*.py")}
    assert lying == {"test_door.py": True, "test_a.py": True, "test_d.py": False, "test_e.py": True}
    graph = references(tmp_path)
    for name in ("exporter/test_a.py", "scenarios/test_e.py"):
        assert reached(tmp_path / "tests" / name, graph, tmp_path) == {"exporter/a.py", "exporter/b.py"}
