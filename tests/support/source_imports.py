"""What a module's source imports, read with `ast`: nothing is imported to find out."""

from __future__ import annotations

import ast
from collections.abc import Iterator


def imports(tree: ast.AST, *, late: bool = False) -> Iterator[tuple[int, str]]:
    """Line and dotted name of each import, ``from a import b`` as ``a.b``; those within functions only when ``late``.

    What stands under ``if TYPE_CHECKING`` is never imported and left out.
    """
    for node in ast.iter_child_nodes(tree):
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from imports(ast.Module(body=node.orelse, type_ignores=[]), late=late)
        elif isinstance(node, ast.Import):
            yield from ((node.lineno, alias.name) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from ((node.lineno, f"{node.module}.{alias.name}") for alias in node.names)
        elif late or not isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)):
            yield from imports(node, late=late)
