from __future__ import annotations

from collections.abc import Callable

import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.tracing.layer_bodies import Body, LayerPair, NotRepeatableError, StateInputs, require_repeat

LAYERS = 3


def constant(name: str, value: float) -> ir.Value:
    return ir.Value(name=name, const_value=ir.tensor(np.array([value], np.float32)))


class Stack:
    """Layers of hidden = (hidden * weight + state) * constant, each a body of three nodes."""

    def __init__(self, change: Callable[[int, dict[str, ir.Value]], None] = lambda number, reads: None) -> None:
        self.state = [ir.Value(name=f"state.{number}") for number in range(LAYERS)]
        hidden = ir.Value(name="embedded")
        self.bodies = []
        for number in range(LAYERS):
            reads = {
                "hidden": hidden,
                "weight": constant(f"layers.{number}.weight", number),
                "state": self.state[number],
                "scale": constant(f"scale_{number}", 0.5),
            }
            change(number, reads)
            scaled = ir.Node("", "Mul", [reads["hidden"], reads["weight"]])
            summed = ir.Node("", "Add", [scaled.outputs[0], reads["state"]])
            last = ir.Node("", "Mul", [summed.outputs[0], reads["scale"]])
            hidden = last.outputs[0]
            self.bodies.append(Body(nodes=(scaled, summed, last), hidden=hidden))

    def compare(self, number: int, twin: int) -> None:
        state = StateInputs(self.state, per_layer=1)
        require_repeat(LayerPair(self.bodies, number, twin), path="layers", state=state)


def test_layers_that_read_their_own_weights_and_state_repeat() -> None:
    Stack().compare(2, 1)
    Stack().compare(1, 0)


def another_weight(number: int, reads: dict[str, ir.Value]) -> None:
    if number == 2:
        reads["weight"] = constant("layers.2.bias", 2)


def a_counting_constant(number: int, reads: dict[str, ir.Value]) -> None:
    reads["scale"] = constant(f"scale_{number}", number)


def the_state_of_the_first_layer(number: int, reads: dict[str, ir.Value]) -> None:
    reads["state"] = FIRST_STATE


def the_embedding_again(number: int, reads: dict[str, ir.Value]) -> None:
    reads["state"] = reads["hidden"] if number == 2 else reads["state"]


FIRST_STATE = ir.Value(name="shared")


@pytest.mark.parametrize("change", [another_weight, a_counting_constant, the_embedding_again])
def test_layers_that_a_copy_would_not_reproduce_are_told_apart(
    change: Callable[[int, dict[str, ir.Value]], None],
) -> None:
    with pytest.raises(NotRepeatableError, match="of layer 2 reads"):
        Stack(change).compare(2, 1)


def test_a_value_from_outside_that_all_layers_read_is_no_difference() -> None:
    Stack(the_state_of_the_first_layer).compare(2, 1)


def test_another_operator_and_another_number_of_them_are_found() -> None:
    stack = Stack()
    nodes = stack.bodies[2].nodes
    stack.bodies[2] = Body(nodes=(*nodes[:2], ir.Node("", "Div", nodes[2].inputs)), hidden=nodes[2].outputs[0])
    with pytest.raises(NotRepeatableError, match="differ at Mul and Div"):
        stack.compare(2, 1)
    stack.bodies[2] = Body(nodes=nodes[:2], hidden=nodes[1].outputs[0])
    with pytest.raises(NotRepeatableError, match="number of operators"):
        stack.compare(2, 1)


def test_layers_without_a_state_of_their_own_read_the_same_inputs() -> None:
    inputs = [ir.Value(name="mask"), ir.Value(name="positions")]
    state = StateInputs(inputs, per_layer=0)
    assert state.are_apart(inputs[0], inputs[0], layers=1)
    assert not state.are_apart(inputs[0], inputs[1], layers=1)
