from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from jisu.exporter.graph.graph_pieces import cut_graph, names_read, piece_model

FLOAT = TensorProto.FLOAT


def chain() -> onnx.ModelProto:
    """y = ((x * a) * b + x) * a, c for nothing"""
    nodes = [
        helper.make_node("Mul", ["x", "a"], ["one"]),
        helper.make_node("Mul", ["one", "b"], ["two"]),
        helper.make_node("Add", ["two", "x"], ["three"]),
        helper.make_node("Mul", ["three", "a"], ["y"]),
    ]
    inputs = [helper.make_tensor_value_info(name, FLOAT, [4]) for name in ("x", "a", "b", "c")]
    graph = helper.make_graph(nodes, "chain", inputs, [helper.make_tensor_value_info("y", FLOAT, [4])])
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def names(pieces):
    return [[node.output[0] for node in piece.nodes] for piece in pieces]


def test_a_piece_ends_where_it_would_read_too_many_weights():
    graph, sizes = chain().graph, {"a": 16, "b": 16}
    assert names(cut_graph(graph, sizes, most=16)) == [["one"], ["two", "three"], ["y"]]
    assert names(cut_graph(graph, sizes, most=32)) == [["one", "two", "three", "y"]]
    assert names(cut_graph(graph, sizes, most=None)) == [["one", "two", "three", "y"]]
    assert names(cut_graph(graph, {"a": 99}, most=16)) == [["one", "two", "three", "y"]], "a is read anyway"


def test_pieces_say_what_they_read_carry_and_read_last():
    first, second, third = cut_graph(chain().graph, {"a": 16, "b": 16}, most=16)
    assert (first.reads, first.carries, first.ends) == ({"x", "a"}, ("one",), set())
    assert (second.reads, second.carries, second.ends) == ({"one", "b", "x"}, ("three",), {"one", "b", "x"})
    assert (third.reads, third.carries, third.ends) == ({"three", "a"}, (), {"three", "a"})
    assert third.writes == {"y"}


def test_what_a_subgraph_takes_from_outside_is_read():
    inner = helper.make_graph(
        [helper.make_node("Add", ["outside", "made"], ["kept"]), helper.make_node("Neg", ["far"], ["made"])],
        "inner",
        [],
        [helper.make_tensor_value_info("kept", FLOAT, [4]), helper.make_tensor_value_info("passed", FLOAT, [4])],
    )
    node = helper.make_node("If", ["condition"], ["out", "more"], then_branch=inner, else_branch=inner)
    assert set(names_read(node)) == {"condition", "outside", "far", "passed"}


def test_pieces_run_one_after_another_give_what_the_whole_gives():
    import onnxruntime

    model = chain()
    values = {name: np.arange(4, dtype=np.float32) + place for place, name in enumerate("xab")}
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], {**values, "c": values["x"]})[0]
    for piece in cut_graph(model.graph, {"a": 16, "b": 16}, most=16):
        outputs = [*piece.carries, *(["y"] if "y" in piece.writes else [])]
        made = piece_model(model, piece, values, outputs)
        session = onnxruntime.InferenceSession(made.SerializeToString())
        assert {one.name for one in session.get_inputs()} == piece.reads
        results = session.run(outputs, {name: values[name] for name in piece.reads})
        values |= dict(zip(outputs, results, strict=True))
    np.testing.assert_array_equal(values["y"], expected)
