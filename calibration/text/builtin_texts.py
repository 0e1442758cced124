"""Texts that are on every machine that exports: CPython's and torch's own prose, code and data.

What quality is judged on comes from other sources, see `exporter.gate`.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from pathlib import Path
from typing import Literal

Kind = Literal["prose", "code"]
KINDS: tuple[Kind, ...] = ("prose", "code")
# Modules of CPython's library of several authors and styles.
PYTHON_MODULES = (
    "calendar",
    "configparser",
    "fractions",
    "graphlib",
    "heapq",
    "html.parser",
    "http.client",
    "sched",
    "textwrap",
)
# Files of torch's wheel: C++, JavaScript, HTML and YAML.
TORCH_FILES = (
    "include/c10/util/ArrayRef.h",
    "include/c10/util/LeftRight.h",
    "include/c10/util/SmallVector.h",
    "include/c10/util/flat_hash_map.h",
    "include/c10/util/intrusive_ptr.h",
    "utils/model_dump/code.js",
    "utils/model_dump/skeleton.html",
    "_export/serde/schema.yaml",
)
# Characters that are read of one file, so that none has more to say than the others.
LONGEST = 12_000


@dataclass(frozen=True, kw_only=True)
class BuiltinText:
    """A text with its place."""

    kind: Kind
    origin: str
    text: str


def builtin_texts() -> list[BuiltinText]:
    """Those that this machine has, in a fixed order; a Python without sources has less code."""
    return [BuiltinText(kind="prose", origin="pydoc_data.topics", text=reference_prose()), *_code()]


def reference_prose() -> str:
    """All of ``pydoc_data.topics``, its topics joined in the order of their names."""
    from pydoc_data.topics import topics

    return "\n".join(topics[name] for name in sorted(topics))


def _code() -> Iterator[BuiltinText]:
    """Python and other languages in turn."""
    for pair in zip_longest(_python_code(), _torch_files()):
        yield from (text for text in pair if text is not None)


def _python_code() -> Iterator[BuiltinText]:
    for name in PYTHON_MODULES:
        spec = importlib.util.find_spec(name)
        text = None if spec is None else getattr(spec.loader, "get_source", lambda _: None)(name)
        if text:
            yield BuiltinText(kind="code", origin=f"Lib/{name.replace('.', '/')}.py", text=text[:LONGEST])


def _torch_files() -> Iterator[BuiltinText]:
    torch = importlib.util.find_spec("torch")
    folders = [] if torch is None else list(torch.submodule_search_locations or ())
    for name in TORCH_FILES:
        path = next((path for folder in folders if (path := Path(folder, name)).is_file()), None)
        if path is not None:
            text = path.read_text(encoding="utf-8", errors="replace")
            yield BuiltinText(kind="code", origin=f"torch/{name}", text=text[:LONGEST])
