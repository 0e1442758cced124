"""Whether every row of a graph's tables of rotary positions is what the source computes at that position.

Prompts never reach most rows. A table is told apart by its first rows, which prompts do check, and then compared as a
whole; tables that belong to no rotary module of the source are left to the checks that run the graph.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.contract.signature import ATTENTION_MASK, INPUT_IDS, PAST_LENGTH
from jisu.exporter.gate.result import Check

if TYPE_CHECKING:
    import onnx_ir as ir

NAME = "position-tables"
# (domain, operator) -> indices of cos and sin among its inputs.
_READERS = {("com.microsoft", "GroupQueryAttention"): (7, 8), ("", "RotaryEmbedding"): (1, 2)}
# Of the table's largest number. Two implementations of a cosine in float32 differ by 1.2e-7, and the frequencies of a
# table that is computed when it is opened were found within 5e-7; a row of another position is off by 0.01 and more.
_TOLERANCES = {"float32": 5e-6, "float16": 1e-3, "bfloat16": 8e-3}
# Rows that tell which of the source's tables this is, and how far they are from it on average, as a share of the
# largest number. Angles that have nothing to do with each other are 0.8 apart.
_FIRST, _CLOSE = 64, 0.1
_BLOCK = 4096  # positions computed at once
_LONGEST = 1 << 18  # rows of a model that declares more, or no limit, for which tables are computed from positions
_WIDTH = 64  # positions asked at once of a graph that computes them, at so many places
_PLACES = 32

Table = npt.NDArray[np.float32]


@dataclass(frozen=True, kw_only=True)
class SourceTable:
    """What one rotary module of the source gives for positions 0.., cos and sin side by side, float32 [P, 2, D/2]."""

    name: str
    rows: Table


@dataclass(frozen=True, kw_only=True)
class _GraphTable:
    """A table as a graph reads it.

    Attributes:
        reader: the first operator that reads it, for the message.
        positions: of its rows, int64 [N].
        rows: float32 [N, 2, D/2].
        dtype: the element type in the graph.
        whole: it has one row for each position, so that it may end too early.
    """

    reader: str
    positions: npt.NDArray[np.int64]
    rows: Table
    dtype: str
    whole: bool


def check_position_tables(graph_file: Path, module: Any, *, max_positions: int | None) -> Check:
    """Compare each table of a graph, stored or computed, with the source's at every position.

    Args:
        graph_file: the ONNX file, its weights beside it.
        module: the source.
        max_positions: what it declares; the tables must reach as far.
    """
    longest = min(max_positions or _LONGEST, _LONGEST)
    tables = list(graph_tables(graph_file, longest))
    truths = source_tables(module, longest) if tables else []
    wrong, compared, unknown, first = 0, 0, 0, ""
    for table in tables:
        truth = _counterpart(table, truths)
        if truth is None:
            unknown += 1
            continue
        compared += 1
        bad, sentence = _compared(table, truth, longest)
        wrong += bad
        first = first or sentence
    detail = first
    if not wrong:
        detail = f"{compared} pairs of tables are the source's at each of {longest} positions."
        if not tables:
            detail = "The graph reads no table of rotary positions."
        elif unknown:
            detail = f"{detail} {unknown} are of a kind that the source shows nowhere: runs judge them."
    return Check(name=NAME, passed=wrong == 0, value=wrong, limit=0, unit="rows that differ", detail=detail)


def _counterpart(table: _GraphTable, truths: list[SourceTable]) -> SourceTable | None:
    """The source's table whose first rows are closest, none of them far."""
    near = table.positions < _FIRST
    errors = {
        index: float(
            np.nanmean(np.abs(table.rows[near] - truth.rows[table.positions[near]])) / np.abs(truth.rows).max()
        )
        for index, truth in enumerate(truths)
        if truth.rows.shape[1:] == table.rows.shape[1:] and near.any()
    }
    closest = min(errors, key=lambda index: errors[index], default=None)
    return truths[closest] if closest is not None and errors[closest] < _CLOSE else None


def _tolerance(table: _GraphTable, truth: SourceTable) -> float:
    return _TOLERANCES[table.dtype] * float(np.abs(truth.rows).max())


def _compared(table: _GraphTable, truth: SourceTable, longest: int) -> tuple[int, str]:
    """How many rows differ, and a sentence about the first of them."""
    known = table.positions < len(truth.rows)
    positions, rows = table.positions[known], table.rows[known]
    errors = np.abs(rows - truth.rows[positions]).reshape(len(rows), -1).max(axis=1)
    bad = ~(errors <= _tolerance(table, truth))
    if bad.any():
        at = int(bad.argmax())
        sentence = f"Row {positions[at]} of the table that {table.reader} reads is off by {errors[at]:.3g}"
        return int(
            bad.sum()
        ), f"{sentence}, and {int(bad.sum()) - 1} rows more are." if bad.sum() > 1 else f"{sentence}."
    if table.whole and len(table.rows) < longest:
        missing = longest - len(table.rows)
        return missing, f"The table that {table.reader} reads ends at {len(table.rows)} of {longest} positions."
    return 0, ""


def graph_tables(graph_file: Path, longest: int) -> Iterator[_GraphTable]:
    """Each pair of tables that operators of a graph read, once; those computed from positions at some of them."""

    from jisu.exporter.graph.read_graph import read_graph

    model = read_graph(graph_file)
    opset = model.graph.opset_imports[""]
    seen: set[tuple[int, int]] = set()
    for node in model.graph:
        where = _READERS.get((node.domain, node.op_type))
        if where is None or len(node.inputs) <= where[1]:
            continue
        cos, sin = (node.inputs[index] for index in where)
        if cos is None or sin is None or (id(cos), id(sin)) in seen:
            continue
        seen.add((id(cos), id(sin)))
        values = _values(cos, sin, opset=opset, longest=longest)
        if values is not None:
            positions, rows, dtype, whole = values
            reader = node.name or f"{node.op_type} {node.outputs[0].name}"
            yield _GraphTable(reader=reader, positions=positions, rows=rows, dtype=dtype, whole=whole)


def _values(
    cos: ir.Value, sin: ir.Value, *, opset: int, longest: int
) -> tuple[npt.NDArray[np.int64], Table, str, bool] | None:
    """Positions, rows, element type, and whether it is a whole table; None for what reads more than positions."""
    from jisu.exporter.graph.evaluate import evaluate, leaves

    read = leaves(cos) | leaves(sin)
    if not read:
        pair = [
            value.const_value.numpy() if value.const_value is not None else evaluate(value, {}, opset=opset)
            for value in (cos, sin)
        ]
        if any(array.ndim != 2 for array in pair) or pair[0].shape != pair[1].shape:
            return None
        dtype = str(pair[0].dtype)
        if dtype not in _TOLERANCES:
            return None
        rows = np.stack([array.astype(np.float32) for array in pair], axis=1)
        return np.arange(len(rows)), rows, dtype, True
    if not read <= {PAST_LENGTH, INPUT_IDS, ATTENTION_MASK}:
        return None
    width = min(_WIDTH, longest)
    starts = np.unique(np.linspace(0, longest - width, _PLACES).astype(np.int64))
    blocks = []
    for start in starts.tolist():
        feeds = {
            PAST_LENGTH: np.array([start], np.int64),
            INPUT_IDS: np.zeros((1, width), np.int64),
            ATTENTION_MASK: np.ones((1, start + width), np.int64),
        }
        try:
            pair = [evaluate(value, feeds, opset=opset) for value in (cos, sin)]
        except Exception:  # noqa: BLE001 - a graph of one token at a time, or of another form: runs judge it
            return None
        if any(array.ndim != 3 or array.shape[1] != width for array in pair) or str(pair[0].dtype) not in _TOLERANCES:
            return None
        blocks.append(np.stack([array[0].astype(np.float32) for array in pair], axis=1))
    positions = (starts[:, None] + np.arange(width)).reshape(-1)
    return positions, np.concatenate(blocks), str(pair[0].dtype), False


def source_tables(module: Any, longest: int) -> list[SourceTable]:
    """What each rotary module of a transformers model gives for positions 0..longest, found by watching it run."""
    tables = []
    for name, rotary, arguments, named in _watched(module):
        rows = _run_rotary(rotary, arguments, named, longest)
        if rows is not None:
            tables.append(SourceTable(name=name, rows=_once(rows)))
    return tables


def _once(rows: Table) -> Table:
    """Each angle once: most modules repeat them, half by half or one by one."""
    half = rows.shape[2] // 2
    if np.array_equal(rows[..., :half], rows[..., half:]):
        return rows[..., :half]
    return rows[..., ::2] if np.array_equal(rows[..., ::2], rows[..., 1::2]) else rows


def _watched(module: Any) -> list[tuple[str, Any, tuple[Any, ...], dict[str, Any]]]:
    """Calls of rotary modules in a run over two tokens: each module's name, itself and its arguments, no call twice."""
    import torch

    from jisu.exporter.gate.reference import stock_attention

    calls: dict[tuple[str, str], tuple[str, Any, tuple[Any, ...], dict[str, Any]]] = {}

    def keep(name: str, rotary: Any) -> Any:
        def hook(called: Any, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
            settings = [item for item in (*arguments, *keywords.values()) if isinstance(item, (str, int, bool))]
            calls.setdefault((name, str(settings)), (name, rotary, arguments, keywords))

        return hook

    hooks = [
        part.register_forward_pre_hook(keep(name, part), with_kwargs=True)
        for name, part in module.named_modules()
        if "rotary" in type(part).__name__.lower()
    ]
    if not hooks:
        return []
    try:
        with stock_attention(module) as stock:
            stock(torch.arange(2)[None], use_cache=False)
    except Exception:  # noqa: BLE001 - a module of another kind of call shows no tables here
        return []
    finally:
        for hook in hooks:
            hook.remove()
    return list(calls.values())


def _run_rotary(rotary: Any, arguments: tuple[Any, ...], keywords: dict[str, Any], longest: int) -> Table | None:
    """[longest, 2, D] of a module that gives (cos, sin) of positions; None for another kind."""
    import copy

    import torch

    rotary = copy.deepcopy(rotary)  # some keep what they computed for the longest text so far
    blocks = []
    for start in range(0, longest, _BLOCK):
        positions = torch.arange(start, min(start + _BLOCK, longest))[None]

        def at(item: Any, positions: Any = positions) -> Any:
            """The argument that numbers the two tokens becomes these positions."""
            tells = isinstance(item, torch.Tensor) and not item.is_floating_point() and item.shape[-1:] == (2,)
            return positions.expand(*item.shape[:-1], -1).to(item.dtype) if tells else item

        try:
            with torch.inference_mode():
                result = rotary(*map(at, arguments), **{name: at(item) for name, item in keywords.items()})
        except Exception:  # noqa: BLE001 - see above
            return None
        if (
            not isinstance(result, tuple)
            or len(result) != 2
            or not all(isinstance(one, torch.Tensor) for one in result)
        ):
            return None
        pair = [one.float().cpu().numpy() for one in result]
        if (
            any(one.ndim != 3 or one.shape[:2] != (1, positions.shape[1]) for one in pair)
            or pair[0].shape != pair[1].shape
        ):
            return None
        blocks.append(np.stack([one[0] for one in pair], axis=1))
    return np.concatenate(blocks)
