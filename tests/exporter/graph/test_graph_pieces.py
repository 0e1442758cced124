from __future__ import annotations

import numpy as np
import onnx
from onnx import TensorProto, helper

from jisu.exporter.graph.graph_pieces import constant_nodes, cut_graph, names_read, piece_model

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
        made = piece_model(model, piece, dict.fromkeys(values, FLOAT), outputs)
        session = onnxruntime.InferenceSession(made.SerializeToString())
        assert {one.name for one in session.get_inputs()} == piece.reads
        results = session.run(outputs, {name: values[name] for name in piece.reads})
        values |= dict(zip(outputs, results, strict=True))
    np.testing.assert_array_equal(values["y"], expected)


def with_constants() -> onnx.ModelProto:
    """y = ((x * 2a) * b) * 2a + default, where who calls may give another default."""
    nodes = [
        helper.make_node("Constant", [], ["two"], value=helper.make_tensor("", FLOAT, [1], [2])),
        helper.make_node("Mul", ["a", "two"], ["doubled"]),
        helper.make_node("Neg", ["default"], ["chosen"]),
        helper.make_node("Mul", ["x", "doubled"], ["one"]),
        helper.make_node("Mul", ["one", "b"], ["three"]),
        helper.make_node("Mul", ["three", "doubled"], ["four"]),
        helper.make_node("Sub", ["four", "chosen"], ["y"]),
    ]
    weights = [helper.make_tensor(name, FLOAT, [4], [start, 1, 2, 3]) for start, name in enumerate(("a", "b"))]
    weights.append(helper.make_tensor("default", FLOAT, [4], [9, 9, 9, 9]))
    inputs = [helper.make_tensor_value_info(name, FLOAT, [4]) for name in ("x", "default")]
    outputs = [helper.make_tensor_value_info("y", FLOAT, [4])]
    graph = helper.make_graph(nodes, "constants", inputs, outputs, weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def test_what_is_computed_of_weights_alone_stands_in_every_piece_that_reads_it():
    import onnxruntime

    model = with_constants()
    constants = constant_nodes(model.graph)
    assert [node.output[0] for node in constants] == ["two", "doubled"], "a caller may give another default"
    pieces = cut_graph(model.graph, {"a": 16, "b": 16}, most=16, constants=constants)
    assert names(pieces) == [["two", "doubled", "chosen", "one"], ["three"], ["two", "doubled", "four", "y"]]
    assert [piece.carries for piece in pieces] == [("chosen", "one"), ("three",), ()]
    values = {"x": np.arange(4, dtype=np.float32), "default": np.ones(4, np.float32)}
    expected = onnxruntime.InferenceSession(model.SerializeToString()).run(["y"], values)[0]
    for piece in pieces:
        outputs = [*piece.carries, *(["y"] if "y" in piece.writes else [])]
        made = piece_model(model, piece, dict.fromkeys(values, FLOAT), outputs)
        session = onnxruntime.InferenceSession(made.SerializeToString())
        read = {one.name for one in (*session.get_inputs(), *session.get_overridable_initializers())}
        results = session.run(outputs, {name: values[name] for name in values.keys() & read})
        values |= dict(zip(outputs, results, strict=True))
    np.testing.assert_array_equal(values["y"], expected)


def test_what_is_given_to_the_caller_is_computed_once():
    model = with_constants()
    model.graph.output.append(helper.make_tensor_value_info("doubled", FLOAT, [4]))
    assert [node.output[0] for node in constant_nodes(model.graph)] == ["two"]
