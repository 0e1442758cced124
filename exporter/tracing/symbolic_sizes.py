"""`min` and `max` of sizes that stay open while a module is traced.

Python's own decide which of two sizes is smaller, and a graph would keep what was so for the example. The modules that
a model's classes are written in find functions of this file under these names for the time of the trace.
"""

from __future__ import annotations

import builtins
import contextlib
import sys
from collections.abc import Iterator
from typing import Any

import torch
from torch import nn


def minimum(*values: Any, **options: Any) -> Any:
    """`min`; of a size that is open and a number, the size that is the smaller one whenever it is asked for."""
    return torch.sym_min(*values) if _open(values, options) else builtins.min(*values, **options)


def maximum(*values: Any, **options: Any) -> Any:
    """`max`, in the same way."""
    return torch.sym_max(*values) if _open(values, options) else builtins.max(*values, **options)


@contextlib.contextmanager
def open_sizes(root: nn.Module) -> Iterator[None]:
    """Let the code of every module below ``root`` find these functions while the block runs."""
    files = [vars(sys.modules[name]) for name in {type(child).__module__ for child in root.modules()}]
    ours = {"min": minimum, "max": maximum}
    # A name of the file's own is what its author meant, and stays.
    changed = [(file, name) for file in files for name in ours if name not in file and file is not vars(builtins)]
    try:
        for file, name in changed:
            file[name] = ours[name]
        yield
    finally:
        for file, name in changed:
            file.pop(name, None)


def _open(values: tuple[Any, ...], options: dict[str, Any]) -> bool:
    return len(values) == 2 and not options and any(isinstance(value, torch.SymInt) for value in values)
