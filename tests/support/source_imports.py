"""What a module's source imports, read with `ast`: nothing is imported to find out."""

from __future__ import annotations

import ast
import re
from collections.abc import Container, Iterator

# A package's name in code -> the folder's: `jisu.exporter` is a link to `exporter`.
_BELOW_JISU = re.compile(r"^jisu\.(?=(calibration|exporter|runtimes|benchmarks)\b)")


def folder_name(module: str) -> str:
    """``exporter.x`` of ``jisu.exporter.x``; other names as they are."""
    return _BELOW_JISU.sub("", module)


def imports(tree: ast.AST, *, late: bool = False) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import, ``from a import b`` as ``a.b``; those within functions only when ``late``.

    What stands under ``if TYPE_CHECKING`` is never imported and left out. Our packages go by their folders' names.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from imports(ast.Module(body=node.orelse, type_ignores=[]), late=late)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, folder_name(alias.name)) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, folder_name(f"{node.module}.{alias.name}")) for alias in node.names)
        elif late or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from imports(node, late=late)


def named_modules(tree: ast.AST, known: Container[str]) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each module that a file refers to in any way.

    Those within functions, for types only, and as strings ``"a.b"`` or ``"a.b:name"`` are included; of
    ``from a import b`` it is ``a.b`` where that is a module and ``a`` elsewhere.

    Args:
        known: dotted names of modules; anything else is left out.
    """
    for node in ast.walk(tree):
        names: list[str] = []
        if isinstance(node, ast.Import):
            names = [folder_name(alias.name) for alias in node.names]
        elif isinstance(node, ast.ImportFrom) and node.module:
            module = folder_name(node.module)
            names = [
                full if (full := folder_name(f"{node.module}.{one.name}")) in known else module for one in node.names
            ]
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            word = folder_name(node.value.partition(":")[0])
            names = [word] if "." in word else []
        yield from ((node.lineno, name) for name in names if name in known)
