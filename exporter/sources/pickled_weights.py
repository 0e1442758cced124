"""Reads weights from pickle files, through the unpickler of torch that builds nothing but tensors.

Takes both formats of ``torch.save`` (the archive of torch 1.6 and later, and the stream before it), and the records
that trainers keep weights in.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.reason import reason_of

if TYPE_CHECKING:
    import torch

_ARCHIVE = b"PK\x03\x04"
# Under which key trainers keep the weights in a larger record.
_TABLES = ("state_dict", "model_state_dict", "model_state", "model", "module", "params", "weights", "net")
_PLAIN = (str, bytes, bool, int, float, type(None))


def read_pickled_weights(files: list[Path]) -> tuple[dict[str, torch.Tensor], list[str]]:
    """The tensors of pickle files by name, mapped where the format allows it.

    Returns:
        The tensors, and a sentence for each file that holds more than these.

    Raises:
        InputError: a file is damaged, runs code, or has no one table of weights; or two files hold the same weight.
    """
    weights: dict[str, torch.Tensor] = {}
    notes: list[str] = []
    for file in files:
        left_out: list[str] = []
        for table in _tables(_unpickled(file), file, left_out):
            for name, value in table.items():
                if isinstance(value, _PLAIN):
                    left_out.append(str(name))
                elif name in weights:
                    raise InputError(
                        f"The weight {name} is stored twice",
                        received=f"again in {file.name}",
                        allowed="each weight once",
                        fix="Remove the files that do not belong to the model.",
                    )
                else:
                    weights[str(name)] = value
        if left_out:
            notes.append(f"{file.name} holds more than weights; left out: {', '.join(sorted(left_out))}.")
    return weights, notes


def _unpickled(file: Path) -> Any:
    import torch

    try:
        with file.open("rb") as stream:  # a stream of older versions cannot be mapped
            mapped = stream.read(len(_ARCHIVE)) == _ARCHIVE
        return torch.load(file, map_location="cpu", weights_only=True, mmap=mapped)
    except Exception as error:
        raise InputError(
            f"{file} cannot be read as weights",
            received=reason_of(error),
            allowed="a pickle that holds tensors and nothing else that would have to be built",
            fix="Convert the weights to safetensors.",
        ) from error


def _tables(stored: Any, file: Path, left_out: list[str]) -> Iterator[Mapping[str, Any]]:
    """The tables of weights in what was unpickled; appends the names of the other things to ``left_out``."""
    if _is_table(stored):
        yield stored
        return
    if isinstance(stored, (list, tuple)) and stored and all(_is_table(one) for one in stored):
        yield from stored
        return
    named = [key for key in _TABLES if key in stored] if isinstance(stored, Mapping) else []
    if len(named) != 1:
        shown = ", ".join(sorted(map(str, stored))[:5]) if isinstance(stored, Mapping) else type(stored).__name__
        raise InputError(
            f"{file} does not hold a table of weights" + (" that could be told from others" if named else ""),
            received=shown,
            allowed=f"a dictionary of tensors by name, maybe under one of the keys {', '.join(_TABLES)}",
            fix="Save the model's state_dict alone, best as safetensors.",
        )
    left_out += [str(key) for key in stored if key != named[0]]
    yield from _tables(stored[named[0]], file, left_out)


def _is_table(stored: Any) -> TypeGuard[Mapping[str, Any]]:
    """Whether it maps names to tensors; the numbers and texts that some save beside them do not count."""
    import torch

    if not isinstance(stored, Mapping):
        return False
    values = [value for value in stored.values() if not isinstance(value, _PLAIN)]
    return bool(values) and all(isinstance(value, torch.Tensor) for value in values)
