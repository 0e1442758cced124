"""The shapes a plan is built for: one profile for prompts, one for single tokens, over caches of one fixed length.

A plan takes no other shapes. Longer prompts are fed piece by piece; what does not fit the cache cannot be run. An
encoder reads texts of up to so many tokens at once, and its decoder single tokens alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import CAPACITY, SOURCE, Signature

PREFILL, DECODE = "prefill", "decode"
DEFAULT_CAPACITY = 2048
DEFAULT_PROMPT = 512
Dims = tuple[int, ...]


@dataclass(frozen=True, kw_only=True)
class Shapes:
    """What the user chose: tokens that a row has room for, tokens of a prompt in one call, and rows.

    ``source`` counts the tokens of a text that an encoder reads, where there is one; a prompt is then one token, and
    the option ``--prompt`` means the source.

    Raises:
        InputError: a number below 1, or a prompt longer than a row.
    """

    capacity: int = DEFAULT_CAPACITY
    prompt: int = DEFAULT_PROMPT
    batch: int = 1
    source: int | None = None

    def __post_init__(self) -> None:
        for name, value in asdict(self).items():
            if value is not None and value < 1:
                option = "prompt" if name == "source" else name
                raise InputError(
                    f"A plan's {name} is out of range", received=value, allowed="1 or more", fix=f"Correct --{option}."
                )
        if self.prompt > self.capacity:
            raise InputError(
                "A plan's prompts are longer than its rows",
                received=f"--prompt {self.prompt} --capacity {self.capacity}",
                allowed=f"--prompt up to {self.capacity}",
                fix="Shorten the one or lengthen the other.",
            )


@dataclass(frozen=True, kw_only=True)
class Profile:
    """One range of shapes: input name -> (smallest, usual, largest) dims."""

    name: str
    shapes: Mapping[str, tuple[Dims, Dims, Dims]]


def default_shapes(
    artifact: Artifact, *, capacity: int | None = None, prompt: int | None = None, batch: int | None = None
) -> Shapes:
    """The user's choice, and for what was left open what the model has room for.

    Raises:
        InputError: a capacity or a source beyond the model's positions.
    """
    facts = artifact.manifest.model
    most = facts.max_positions
    if capacity is not None and most is not None and capacity > most:
        raise InputError(
            "The plan's rows are longer than the model's",
            received=f"--capacity {capacity}",
            allowed=f"up to {most}, the positions of {facts.architecture}",
            fix="Choose a smaller --capacity.",
        )
    rows = min(DEFAULT_CAPACITY, most or DEFAULT_CAPACITY) if capacity is None else capacity
    # A number below 1 is refused by `Shapes`, and is no choice that was left open.
    batch = 1 if batch is None else batch
    if not artifact.manifest.signature.encoded:
        return Shapes(capacity=rows, prompt=min(DEFAULT_PROMPT, rows) if prompt is None else prompt, batch=batch)
    longest = facts.max_source_positions
    if prompt is not None and longest is not None and prompt > longest:
        raise InputError(
            "The plan's sources are longer than the model's",
            received=f"--prompt {prompt}",
            allowed=f"up to {longest}, the encoder's positions of {facts.architecture}",
            fix="Choose a smaller --prompt.",
        )
    source = min(DEFAULT_PROMPT, longest or DEFAULT_PROMPT) if prompt is None else prompt
    return Shapes(capacity=rows, prompt=1, batch=batch, source=source)


def profiles_for(signature: Signature, shapes: Shapes) -> tuple[Profile, ...]:
    """The profiles of a graph: for prompts, and for single tokens where the graph carries a state.

    A graph that takes one token at a time, or whose prompts an encoder reads, has the second alone, one without a state
    the first alone.
    """
    # A second token in the range of single ones: with a width that is fixed TensorRT-RTX 1.7 lays the weights out in
    # another way for each profile and stores them twice (135M model in fp16: 509 MB instead of 303 MB).
    # Of attention from a fixed single token TensorRT-RTX 1.7 has no fused kernel.
    few = 2 if signature.encoded else min(2, shapes.prompt)
    widths = {PREFILL: (1, max(1, shapes.prompt // 2), shapes.prompt), DECODE: (1, 1, few)}
    if signature.takes_one_token:
        widths[DECODE] = (1, 1, 1)
    one_token = signature.takes_one_token or bool(signature.encoded)
    names = [DECODE] if one_token else [PREFILL, DECODE] if signature.state else [PREFILL]
    return tuple(Profile(name=name, shapes=_shapes(signature, shapes, widths[name])) for name in names)


def _shapes(signature: Signature, shapes: Shapes, widths: tuple[int, int, int]) -> dict[str, tuple[Dims, Dims, Dims]]:
    inputs: list[Any] = [*signature.inputs, *signature.state]
    rows = (1, shapes.batch, shapes.batch)
    longest = shapes.source or 1
    sources = (1, max(1, longest // 2), longest)
    ranges = {}
    for spec in inputs:
        name = getattr(spec, "name", None) or spec.past
        smallest, usual, largest = (
            tuple(_size(dim, {"B": row, "T": width, "S": width, SOURCE: source}, shapes) for dim in spec.dims)
            for row, width, source in zip(rows, widths, sources, strict=True)
        )
        ranges[name] = (smallest, usual, largest)
    return ranges


def _size(dim: int | str, varying: Mapping[str, int], shapes: Shapes) -> int:
    if isinstance(dim, int):
        return dim
    sizes = {**varying, CAPACITY: shapes.capacity, "K": 1}
    if dim not in sizes:
        raise InputError(
            "The graph has a dimension that TensorRT's profiles do not name",
            received=dim,
            allowed=", ".join(sizes),
            fix="Export the model again with this version.",
        )
    return sizes[dim]
