"""The house rules that no single module can hold: who imports whom, what an import costs.

The rules read the source with `ast`; the last tests plant a violation of each and see it found.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from collections.abc import Container, Mapping
from pathlib import Path

import pytest

import jisu
from tests.support.source_imports import imports, named_modules

ROOT = Path(__file__).parent.parent
PACKAGES = ("calibration", "exporter", "runtimes", "benchmarks")
# package -> what it may import of ours; a dotted name is that module alone, and the package itself is always allowed.
ARROWS = {
    "calibration": (),
    "exporter": ("calibration",),
    "runtimes": ("exporter.contract",),
    "benchmarks": ("calibration", "exporter", "runtimes"),
    "jisu": ("exporter", "runtimes"),
}
# The same, for imports within functions: the gate may open a backend, and the front door loads what it names.
LATE_ARROWS = {**ARROWS, "exporter": ("calibration", "runtimes")}
# The rooms of a package, from the bottom up: one imports only those before it, and a package's root and commands any.
ROOMS = {
    "calibration": ("errors", "text", "weights", "model", "statistics", "w8a8"),
    "exporter": (
        "contract",
        "jobs",
        "precision",
        "graph",
        "sources",
        "tracing",
        "models",
        "passes",
        "gate",
        "quantization",
        "packaging",
        "estimates",
        "reports",
        "opinions",
        "diagnosis",
    ),
    "runtimes": ("machine", "images", "backends", "generation", "chat", "reading", "speech", "shown"),
}
# A backend imports no other one; all may import `ort`, and what lies in `backends` itself.
BACKENDS_ROOM = "runtimes.backends"
SHARED_BACKEND = "runtimes.backends.ort"
# The front door, a list of backends, names them in strings; it imports none.
NAMES_BACKENDS = "runtimes/backends/registry.py"
# What looks against the arrows all the same, and at what: every line is one that a later change may take away.
EXCEPTIONS = {
    # The front door names each command's module.
    "jisu/command_line.py": ("benchmarks.commands.compare",),
    # The gate opens what users will run, and renders its template.
    "exporter/gate/open_candidate.py": (
        "runtimes.backends.backend_options",
        "runtimes.backends.registry",
        "runtimes.machine.int8_sums",
        # A graph that is no artifact: the candidate's without the rounding of what goes into its matmuls, or a piece.
        "runtimes.backends.external_data",
        "runtimes.backends.forks",
        "runtimes.backends.ort.session",
        "runtimes.backends.ort_cpu.backend",
        "runtimes.backends.ort_cpu.one_pass",
        "runtimes.backends.row_lengths",
        # Prompts with images are made by what users make them with.
        "runtimes.shown.image_reader",
        "runtimes.shown.recording_reader",
        "runtimes.model_text",
    ),
    # What prepares images at run time is tried at the export.
    "exporter/sources/image_ways.py": (
        "runtimes.images.marks",
        "runtimes.images.preparation",
        "runtimes.images.ways",
    ),
    "exporter/sources/recording_ways.py": ("runtimes.speech.cuts",),
    "exporter/sources/image_layout.py": ("runtimes.images.marks",),
    "exporter/tracing/trace_images.py": ("runtimes.images.ways",),
    "exporter/gate/tokenizer.py": (
        "runtimes.chat.chat_encoder",
        "runtimes.chat.chat_template",
        "runtimes.generation.text",
    ),
    "exporter/sources/tokenizer.py": ("runtimes.chat.chat_template",),
    "exporter/sources/reranking/prompt.py": ("runtimes.chat.chat_template",),
    # What a runtime could not follow is refused at the export.
    "exporter/sources/generation.py": ("runtimes.generation.model_defaults",),
    "exporter/second_opinion.py": ("runtimes.backends.registry", "runtimes.chat.chat_template", "runtimes.engine"),
    # Commands that show an artifact on a backend.
    "exporter/commands/inspect.py": ("runtimes.placement_report",),
    "exporter/commands/diagnose.py": (
        "runtimes.backends.tensorrt",
        "runtimes.commands.build",
        "runtimes.plan_comparison",
    ),
    # The source itself as a backend: only the exporter reads checkpoints.
    "runtimes/backends/torch/backend.py": ("exporter.verification",),
    "runtimes/backends/torch/one_pass.py": ("exporter.verification",),
}
# What a package's own file calls where it is imported by its folder's name.
FOLDER_NAMES = "jisu.folder_names."
MOST_IN_A_ROOT = 10  # modules
HEAVY = {
    "torch",
    "transformers",
    "onnxruntime",
    "onnxruntime_genai",
    "tensorrt",
    "tensorrt_rtx",
    "cuda",
    "onnx",
    "onnx_ir",
    "onnxscript",
    "ray",
    "rich",
}
CONTRACT = (
    "exporter/contract/artifact.py",
    "exporter/contract/signature.py",
    "exporter/contract/errors.py",
    "exporter/contract/generation_settings.py",
    "exporter/contract/hub_links.py",
    "exporter/contract/placeholders.py",
    "exporter/contract/manifest_rules.py",
    "exporter/contract/import_onnxruntime.py",
    "exporter/contract/rerank_prompt.py",
)
# Classes of torch modules need torch to be defined; functions that need them import these files.
DEFINES_TORCH_CLASSES = (
    "exporter/sources/layers.py",
    "exporter/sources/entering_rows.py",
    "exporter/sources/feature_ways.py",
    "exporter/sources/embedding/embedder.py",
    "exporter/sources/embedding/static.py",
    "exporter/sources/reranking/scorer.py",
    "exporter/sources/embedding/pooling.py",
    "exporter/tracing",
    "exporter/models",
)
VAGUE = {"utils", "util", "helpers", "helper", "common", "misc", "base"}


def our_modules(root: Path = ROOT) -> list[Path]:
    return sorted(
        [*(root / "jisu").glob("*.py"), *(path for package in PACKAGES for path in (root / package).rglob("*.py"))]
    )


def wrong_arrows(path: Path, root: Path = ROOT) -> list[str]:
    """Imports of ``path`` that go against the arrows."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    owner = path.relative_to(root).parts[0]
    now = set(imports(tree))
    actual = []
    for line, name in sorted(set(imports(tree, late=True))):
        package = name.split(".")[0]
        if package == owner or package not in (*PACKAGES, "jisu") or name.startswith(FOLDER_NAMES):
            continue
        allowed = (ARROWS if (line, name) in now else LATE_ARROWS)[owner]
        if not any(name == module or name.startswith(f"{module}.") for module in allowed):
            actual.append(f"{path.relative_to(root)}:{line} imports {name}")
    return actual


def dotted(path: Path, root: Path = ROOT) -> str:
    """The module's name."""
    return ".".join(path.relative_to(root).with_suffix("").parts).removesuffix(".__init__")


def height(module: str) -> int:
    """How many rooms of its package lie below a module's; the root and the commands are on top of all."""
    package, _, rest = module.partition(".")
    rooms = ROOMS.get(package, ())
    room = rest.partition(".")[0]
    return rooms.index(room) if room in rooms else len(rooms)


def backend_room(module: str) -> str | None:
    """``runtimes.backends.NAME`` of a module in a backend's own room."""
    parts = module.split(".")
    return ".".join(parts[:3]) if module.startswith(f"{BACKENDS_ROOM}.") and len(parts) > 3 else None


def wrong_rooms(path: Path, known: Container[str], root: Path = ROOT) -> list[str]:
    """Modules that ``path`` refers to, in any way, against the order of rooms and packages."""
    where = path.relative_to(root).as_posix()
    module = dotted(path, root)
    package = module.partition(".")[0]
    actual = []
    for line, name in sorted(set(named_modules(ast.parse(path.read_text(encoding="utf-8")), known))):
        other = name.partition(".")[0]
        if any(name == one or name.startswith(f"{one}.") for one in EXCEPTIONS.get(where, ())):
            continue
        if other == package:
            own, theirs = backend_room(module), backend_room(name)
            sibling = theirs is not None and theirs not in (own, SHARED_BACKEND) and module.startswith(BACKENDS_ROOM)
            wrong = height(name) > height(module) or (sibling and where != NAMES_BACKENDS)
        else:
            allowed = ARROWS.get(package, ())
            wrong = other in PACKAGES and not any(name == one or name.startswith(f"{one}.") for one in allowed)
        if wrong:
            actual.append(f"{where}:{line} refers to {name}")
    return actual


def circles(graph: Mapping[str, set[str]]) -> list[list[str]]:
    """Groups of modules that import each other, directly or through others."""
    reach: dict[str, set[str]] = {}
    for start in graph:
        seen: set[str] = set()
        stack = list(graph[start])
        while stack:
            name = stack.pop()
            if name not in seen:
                seen.add(name)
                stack.extend(graph.get(name, ()))
        reach[start] = seen
    groups = {tuple(sorted(b for b in reach[a] if a in reach.get(b, ()))) for a in graph if a in reach[a]}
    return [list(group) for group in sorted(groups)]


def heavy_imports(path: Path, root: Path = ROOT) -> list[str]:
    """Imports of heavy libraries that happen as soon as ``path`` is imported."""
    if any(path.is_relative_to(root / folder) for folder in DEFINES_TORCH_CLASSES):
        return []
    tree = ast.parse(path.read_text(encoding="utf-8"))
    return [
        f"{path.relative_to(root)}:{line} imports {name} at module level"
        for line, name in imports(tree)
        if name.split(".")[0] in HEAVY
    ]


def foreign_imports(path: Path) -> list[str]:
    """Imports, also within functions, of anything but the standard library and the contract modules."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    contract = tuple(module.removesuffix(".py").replace("/", ".") for module in CONTRACT)
    return [
        name
        for _, name in imports(tree, late=True)
        if name.split(".")[0] not in sys.stdlib_module_names and not name.startswith(contract)
    ]


def mapped_paths(readme: str) -> list[str]:
    """The paths that the README's file map names: the first word of each line of the block below its heading."""
    block = re.search(r"^## File map$.*?^```$(.*?)^```$", readme, re.MULTILINE | re.DOTALL)
    assert block is not None, "the README has no file map"
    paths = []
    folder = ""
    for line in block[1].splitlines():
        if not line.strip():
            continue
        name = line.split()[0]
        folder = folder if line.startswith(" ") else (name if name.endswith("/") else "")
        paths.append(f"{folder}{name}" if line.startswith(" ") else name)
    return paths


@pytest.mark.parametrize("path", our_modules(), ids=lambda path: path.relative_to(ROOT).as_posix())
def test_module_keeps_the_house_rules(path: Path) -> None:
    assert wrong_arrows(path) == []
    assert heavy_imports(path) == []
    assert ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))), "a module says what it is for"
    assert not VAGUE & {part.removesuffix(".py") for part in path.relative_to(ROOT).parts}, "a name says what is inside"


@pytest.fixture(scope="module")
def known() -> set[str]:
    return {dotted(path) for path in our_modules()}


def test_rooms_import_only_those_below_them(known: set[str]) -> None:
    assert [line for path in our_modules() for line in wrong_rooms(path, known)] == []


def test_every_exception_is_needed(known: set[str]) -> None:
    unneeded = []
    for where, names in EXCEPTIONS.items():
        used = {name for _, name in named_modules(ast.parse((ROOT / where).read_text(encoding="utf-8")), known)}
        unneeded += [f"{where}: {one}" for one in names if not any(name.startswith(one) for name in used)]
    assert unneeded == []


def test_no_modules_import_each_other(known: set[str]) -> None:
    graph = {}
    for path in our_modules():
        tree = ast.parse(path.read_text(encoding="utf-8"))
        names = [name for _, name in imports(tree, late=True)]
        module = dotted(path)
        graph[module] = {one for name in names for one in (name, name.rpartition(".")[0]) if one in known} - {module}
        # A package's own file names its rooms' public functions for those outside.
        if path.name == "__init__.py":
            graph[module] = set()
    assert circles(graph) == []


def internal_imports(path: Path) -> list[str]:
    """Imports of anything inside the package but its public modules."""
    names = [name for _, name in imports(ast.parse(path.read_text(encoding="utf-8")), late=True)]
    public = ("jisu.networks.", *(f"jisu.{name}" for name in [*jisu.__all__, "networks"]))
    return [name for name in names if name.split(".")[0] in ("jisu", *PACKAGES) and not name.startswith(public)]


@pytest.mark.parametrize("path", sorted((ROOT / "examples").rglob("*.py")), ids=lambda path: path.stem)
def test_examples_use_what_is_public(path: Path) -> None:
    assert internal_imports(path) == []


def test_a_planted_import_of_an_internal_module_is_found(tmp_path: Path) -> None:
    lines = "from jisu import load\nfrom jisu.networks import PAD_ID\nfrom jisu.runtimes.engine import Engine\n"
    assert internal_imports(plant(tmp_path, "examples/a.py", lines)) == ["runtimes.engine.Engine"]


def by_folder_name(path: Path) -> list[str]:
    """Imports of our packages by their folders' names, which a wheel does not have."""
    actual = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names = [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        names = [one.name for one in node.names] if isinstance(node, ast.Import) else names
        actual += [f"{path.name}:{node.lineno} imports {name}" for name in names if name.split(".")[0] in PACKAGES]  # type: ignore[attr-defined]
    return actual


def test_the_packages_are_imported_by_their_names_below_jisu() -> None:
    tests = [path for path in (ROOT / "tests").rglob("*.py") if path.name != "test_folder_names.py"]
    examples = list((ROOT / "examples").rglob("*.py"))
    assert [line for path in [*our_modules(), *tests, *examples] for line in by_folder_name(path)] == []


@pytest.mark.parametrize(("line", "count"), [("import exporter.a", 1), ("from jisu.exporter import a", 0)])
def test_a_planted_import_by_a_folders_name_is_found(tmp_path: Path, line: str, count: int) -> None:
    assert len(by_folder_name(plant(tmp_path, "exporter/a.py", line))) == count


@pytest.mark.parametrize("package", PACKAGES)
def test_a_root_holds_few_modules(package: str) -> None:
    assert len([path for path in (ROOT / package).glob("*.py") if path.name != "__init__.py"]) <= MOST_IN_A_ROOT


@pytest.mark.parametrize("name", CONTRACT)
def test_contract_module_needs_the_standard_library_only(name: str) -> None:
    assert foreign_imports(ROOT / name) == []


@pytest.mark.parametrize("name", ["jisu", *(f"jisu.{package}" for package in PACKAGES)])
def test_importing_a_package_loads_nothing_heavy(name: str) -> None:
    code = f"import sys, {name}; print(sorted({HEAVY!r} & set(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


def test_commands_load_nothing_heavy_before_they_run() -> None:
    code = (
        "import importlib, sys, jisu.command_line\n"
        "for module, _ in jisu.command_line.VERBS.values(): importlib.import_module(module)\n"
        f"print(sorted({HEAVY!r} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False)
    assert (done.stdout.strip(), done.stderr) == ("[]", "")


def test_readme_maps_files_that_exist_and_every_top_folder() -> None:
    paths = mapped_paths((ROOT / "README.md").read_text(encoding="utf-8"))
    assert [path for path in paths if not (ROOT / path).exists()] == []
    assert {f"{package}/" for package in (*PACKAGES, "jisu", "tests")} <= set(paths)


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("calibration/a.py", "import exporter"),
        ("calibration/a.py", "def f():\n    from exporter import contract"),
        ("exporter/a.py", "from runtimes import load"),
        ("exporter/a.py", "try:\n    import runtimes.engine\nexcept ImportError:\n    pass"),
        ("exporter/a.py", "def f():\n    import benchmarks.compare.run"),
        ("runtimes/a.py", "from exporter import export"),
        ("runtimes/a.py", "def f():\n    from exporter.sources import load_source"),
        ("runtimes/a.py", "from exporter.contracts import x"),
        ("runtimes/a.py", "import benchmarks"),
        ("benchmarks/a.py", "import jisu"),
    ],
)
def test_planted_wrong_arrow_is_found(tmp_path: Path, where: str, line: str) -> None:
    assert len(wrong_arrows(plant(tmp_path, where, line), tmp_path)) == 1


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("exporter/a.py", "import calibration.x"),
        ("exporter/a.py", "def f():\n    from runtimes import load"),
        ("exporter/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from runtimes import Engine"),
        ("runtimes/a.py", "from exporter.contract.artifact import Artifact"),
        ("runtimes/a.py", "import exporter.contract.errors"),
        ("benchmarks/a.py", "from runtimes import load"),
        ("calibration/a.py", "import calibration.b"),
    ],
)
def test_right_arrow_is_no_violation(tmp_path: Path, where: str, line: str) -> None:
    assert wrong_arrows(plant(tmp_path, where, line), tmp_path) == []


@pytest.mark.parametrize(
    ("where", "line"),
    [
        ("exporter/graph/a.py", "from exporter.sources import b"),
        ("exporter/graph/a.py", "def f():\n    from exporter.sources import b"),
        ("exporter/graph/a.py", "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import exporter.sources.b"),
        ("exporter/graph/a.py", "import exporter.pipeline"),
        ("runtimes/backends/torch/a.py", "OPENER = 'exporter.sources.b:load'"),
        ("runtimes/backends/torch/a.py", "from runtimes.backends.ort_cpu import b"),
        ("runtimes/backends/a.py", "from runtimes.backends.ort_cpu import b"),
        ("runtimes/machine/a.py", "import runtimes.backends"),
    ],
)
def test_planted_import_of_a_higher_room_is_found(tmp_path: Path, where: str, line: str) -> None:
    known = {"exporter.sources", "exporter.sources.b", "exporter.pipeline", "runtimes.backends"}
    known |= {"runtimes.backends.ort_cpu", "runtimes.backends.ort_cpu.b", "runtimes.backends.ort", "exporter.contract"}
    assert len(wrong_rooms(plant(tmp_path, where, line), known, tmp_path)) == 1
    fine = plant(tmp_path, where, "import exporter.contract, runtimes.backends.ort" if "back" in where else "")
    assert wrong_rooms(fine, known, tmp_path) == []


def test_a_planted_circle_is_found() -> None:
    assert circles({"a": {"b"}, "b": {"c"}, "c": {"a"}, "d": {"a"}}) == [["a", "b", "c"]]


@pytest.mark.parametrize(
    ("line", "count"),
    [
        ("import torch", 1),
        ("import numpy, onnx.helper", 1),
        ("class A:\n    from rich import print", 1),
        ("if True:\n    import transformers", 1),
        ("def f():\n    import torch", 0),
        ("import typing\nif typing.TYPE_CHECKING:\n    import torch", 0),
        ("import typing\nif typing.TYPE_CHECKING:\n    pass\nelse:\n    import torch", 1),
        ("import torchless", 0),
    ],
)
def test_planted_heavy_import_is_found(tmp_path: Path, line: str, count: int) -> None:
    assert len(heavy_imports(plant(tmp_path, "exporter/a.py", line), tmp_path)) == count


def test_planted_foreign_import_in_a_contract_module_is_found(tmp_path: Path) -> None:
    assert foreign_imports(plant(tmp_path, "exporter/a.py", "def f():\n    import numpy")) == ["numpy"]


def test_file_map_is_read_with_its_folders() -> None:
    readme = "# x\n\n## File map\n\nWords.\n\n```\njisu/  door\nexporter/  part\n  a.py  b\n\nMakefile  c\n```\n"
    assert mapped_paths(readme) == ["jisu/", "exporter/", "exporter/a.py", "Makefile"]


def plant(root: Path, where: str, text: str) -> Path:
    path = root / where
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text, encoding="utf-8")
    return path
