"""A permanent collection of faults: each damages an artifact of a tiny model in a way that changes an answer.

They are what a wrong pass, a bug of a runtime's or a flipped bit could do. None may be accepted. A fault edits the
files of a copy; the hashes are recorded again afterwards, so that nothing but the gate can find it.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[Any]
Damage = Callable[[Path], None]


@dataclass(frozen=True, kw_only=True)
class Fault:
    """One fault.

    Attributes:
        name: what is wrong, in a few words.
        subject: the tiny artifact that it is planted in, a key of `benchmarks.studies.planted_faults.SUBJECTS`.
        damage: edits the files of a copy of the artifact.
        stored: a comparison of data finds it, without the graph being run.
    """

    name: str
    subject: str
    damage: Damage
    stored: bool = False


def constant(name: str, edit: Callable[[Array], Array], *, graph: str = "model.onnx") -> Damage:
    """Change the numbers of the constants whose names contain ``name``; of the first only where it ends in ``!``."""

    def damage(folder: Path) -> None:
        import onnx_ir as ir

        model = ir.load(folder / graph)
        keys = [key for key in model.graph.initializers if name.rstrip("!") in key]
        assert keys, f"no constant {name}"
        for key in keys[:1] if name.endswith("!") else keys:
            value = model.graph.initializers[key]
            assert value.const_value is not None
            stored = value.const_value.numpy()
            array = np.ascontiguousarray(edit(stored.copy())).astype(stored.dtype, copy=False)
            value.const_value = ir.Tensor(array, dtype=value.const_value.dtype, name=key)
        ir.save(model, folder / graph)

    return damage


def angles(edit: Callable[[Array], Array]) -> Damage:
    """Change the angles of the rotary tables, which hold their cosines and sines; their size stays."""

    def damage(folder: Path) -> None:
        import onnx_ir as ir

        model = ir.load(folder / "model.onnx")
        values = [model.graph.initializers[f"rotary_table_{number}"] for number in (0, 1)]
        cosines, sines = (value.const_value.numpy() for value in values if value.const_value is not None)
        size, angle = np.hypot(cosines, sines), np.unwrap(np.arctan2(sines, cosines), axis=0)
        angle = edit(angle)
        for value, array in zip(values, (size * np.cos(angle), size * np.sin(angle)), strict=True):
            assert value.const_value is not None
            changed = np.ascontiguousarray(array.astype(np.float32))
            value.const_value = ir.Tensor(changed, dtype=value.const_value.dtype, name=value.name)
        ir.save(model, folder / "model.onnx")

    return damage


def weights_elsewhere(location: str) -> Damage:
    """The weights' file out of the folder: beside it, behind a link, or at an absolute path."""

    def damage(folder: Path) -> None:
        import onnx

        model = onnx.load(folder / "model.onnx", load_external_data=False)
        data, place = folder / "model.onnx.data", folder.parent / f"{folder.name}.elsewhere"
        place.mkdir(exist_ok=True)
        target = folder.parent / "model.onnx.data" if location.startswith("..") else place / "model.onnx.data"
        data.replace(target)
        if location.startswith("link"):
            (folder / "link").symlink_to(place)
        name = str(target) if location == "/" else location
        for tensor in model.graph.initializer:
            for entry in tensor.external_data:
                if entry.key == "location":
                    entry.value = name
        onnx.save(model, folder / "model.onnx")

    return damage


def nodes(edit: Callable[[Any], None], *, graph: str = "model.onnx") -> Damage:
    """Edit a graph, an `onnx_ir.Graph`."""

    def damage(folder: Path) -> None:
        import onnx_ir as ir

        model = ir.load(folder / graph)
        edit(model.graph)
        ir.save(model, folder / graph)

    return damage


def settings(name: str, edit: Callable[[Any], None]) -> Damage:
    """Edit a JSON file; the manifest is one, too."""

    def damage(folder: Path) -> None:
        path = folder / name
        data = json.loads(path.read_text(encoding="utf-8"))
        edit(data)
        path.write_text(json.dumps(data, ensure_ascii=False), encoding="utf-8")

    return damage


def rows(first: int, last: int, edit: Callable[[Array], Array]) -> Callable[[Array], Array]:
    def on(array: Array) -> Array:
        array[first : last + 1] = edit(array[first : last + 1])
        return array

    return on


def element(index: tuple[int, ...], number: float) -> Callable[[Array], Array]:
    def on(array: Array) -> Array:
        array[index] = number
        return array

    return on


def attribute(op_type: str, name: str, value: Any, *, first_only: bool = False) -> Callable[[Any], None]:
    """Set an attribute of the operators of a type."""

    def edit(graph: Any) -> None:
        import onnx_ir as ir

        kind = ir.AttrFloat32 if isinstance(value, float) else ir.AttrInt64
        nodes = [node for node in graph if node.op_type == op_type]
        assert nodes, f"no operator {op_type}"
        for node in nodes[:1] if first_only else nodes:
            node.attributes[name] = kind(name, value)

    return edit


def scale_logits(graph: Any, factor: float = 1.05) -> None:
    """Another temperature."""
    _behind_output(graph, "logits", lambda value: [("Mul", [value, _known(graph, "factor", np.float32(factor))])])


def swap_rows_of_large_batches(graph: Any) -> None:
    """Logits of the rows behind the third in the reverse order."""

    def made(value: Any) -> list[tuple[str, list[Any]]]:
        number = {name: _known(graph, f"cut_{name}", np.array([n], np.int64)) for name, n in _CUTS.items()}
        return [
            ("Slice", [value, number["zero"], number["three"], number["zero"]]),
            ("Slice", [value, number["last"], number["two"], number["zero"], number["last"]]),
            ("Concat", [0, 1]),
        ]

    _behind_output(graph, "logits", made, axis=0)


_CUTS = {"zero": 0, "three": 3, "two": 2, "last": -1}


def lose_rows_of_batches(graph: Any, prefix: str = "present.") -> None:
    """What the second and later rows write to the first layer's keys is the first row's."""
    name = next(value.name for value in graph.outputs if value.name.startswith(prefix))

    def made(value: Any) -> list[tuple[str, list[Any]]]:
        zero = _known(graph, "row_zero", np.array([0], np.int64))
        one = _known(graph, "row_one", np.array([1], np.int64))
        return [
            ("Slice", [value, zero, one, zero]),
            ("Mul", [value, _known(graph, "nothing", np.float32(0))]),
            ("Add", [0, 1]),
        ]

    _behind_output(graph, name, made)


def _known(graph: Any, name: str, array: Any) -> Any:
    import onnx_ir as ir

    if name not in graph.initializers:
        tensor = ir.tensor(np.asarray(array), name=name)
        graph.initializers[name] = ir.Value(
            name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(np.shape(array)), const_value=tensor
        )
    return graph.initializers[name]


def _behind_output(
    graph: Any, name: str, made: Callable[[Any], list[tuple[str, list[Any]]]], *, axis: int | None = None
) -> None:
    """Put operators behind an output; a number among their inputs is an earlier one of them."""
    import onnx_ir as ir

    place = next(index for index, value in enumerate(graph.outputs) if value.name == name)
    old = graph.outputs[place]
    kind, shape = old.type, old.shape
    old.name = f"{name}.right"
    results: list[Any] = []
    for op_type, inputs in made(old):
        read = [results[item] if isinstance(item, int) else item for item in inputs]
        attributes = {"axis": axis} if op_type == "Concat" else {}
        node = ir.node(op_type, read, attributes)
        node.outputs[0].type = kind
        node.outputs[0].name = f"{name}.{len(results)}.{op_type}"
        graph.append(node)
        results.append(node.outputs[0])
    results[-1].name, results[-1].shape = name, shape
    graph.outputs[place] = results[-1]
