from __future__ import annotations

from collections.abc import Callable

import ml_dtypes
import numpy as np
import onnx_ir as ir
import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.passes import lint_tensorrt as lint
from jisu.exporter.passes.lint_tensorrt import lint_tensorrt
from tests.exporter.passes.draft import Draft

INT8, UINT8, BOOL, HALF = ir.DataType.INT8, ir.DataType.UINT8, ir.DataType.BOOL, ir.DataType.FLOAT16


def constant(draft: Draft, array, name: str):
    tensor = ir.tensor(array, name=name)
    value = ir.Value(name=name, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape), const_value=tensor)
    draft.weights.append(value)
    return value


def attention(*more, mask: bool = True, outputs: int = 1, mask_type=BOOL, **attributes) -> ir.Model:
    draft = Draft()
    query, key, value = (draft.input(name, "B", 2, "T", 8) for name in "qkv")
    inputs = [query, key, value, draft.input("mask", "B", 1, "T", "T", dtype=mask_type) if mask else None]
    for place, kind in more:
        inputs += [None] * (place + 1 - len(inputs))
        inputs[place] = draft.input(f"input_{place}", "B", 2, "T", 8, dtype=kind)
    y = draft.op("Attention", *inputs, **attributes)
    if outputs > 1:
        old = y.producer()
        new = ir.node("Attention", old.inputs, {}, num_outputs=outputs)
        draft.nodes[draft.nodes.index(old)] = new
        for value in old.inputs:
            del value
        y = new.outputs[0]
        y.type, y.shape = query.type, query.shape
        for index in range(len(old.inputs)):
            old.replace_input_with(index, None)
    return draft.model(y=y)


def dequantized(*, codes=None, zero=None, gathered: bool = False) -> ir.Model:
    draft = Draft()
    codes = np.ones((8, 4), np.int8) if codes is None else codes
    stored = constant(draft, codes, "codes")
    if gathered:
        stored = draft.op("Gather", stored, draft.input("ids", "T", dtype=ir.DataType.INT64), dims=["T", 4])
    inputs = [stored, draft.weight(np.float32(0.5))]
    if zero is not None:
        inputs.append(constant(draft, zero, "zero"))
    weight = draft.op("DequantizeLinear", *inputs, dims=[8, 4], dtype=ir.DataType.FLOAT)
    if gathered:
        return draft.model(y=weight)
    return draft.model(y=draft.op("MatMul", draft.input("x", "B", 8), weight, dims=["B", 4]))


def cache(*, direct: bool = True, axis: int = 2, mode: str = "linear", letter: str = "capacity") -> ir.Model:
    draft = Draft()
    past = draft.input("past_key_values.0.key", "B", 2, letter, 8)
    new, start = draft.input("new", "B", 2, "T", 8), draft.input("start", "B", dtype=ir.DataType.INT64)
    first = past if direct else draft.op("Neg", past)
    return draft.model(**{"present.0.key": draft.op("TensorScatter", first, new, start, axis=axis, mode=mode)})


def encoded() -> ir.Model:
    draft = Draft()
    return draft.model(y=draft.op("Neg", draft.input("encoder_state.0.key", "B", 2, "source", 8)))


def optional_input() -> ir.Model:
    draft = Draft()
    inputs = draft.weight([1, 2], "optional")
    draft.inputs.append(inputs)
    return draft.model(y=draft.op("Neg", inputs))


def unread_input() -> ir.Model:
    draft = Draft()
    draft.input("nobody", "B")
    return draft.model(y=draft.op("Neg", draft.input("x", "B")))


def mixed() -> ir.Model:
    draft = Draft()
    return draft.model(
        y=draft.op("MatMul", draft.input("x", "B", 8), draft.input("w", 8, 4, dtype=HALF), dims=["B", 4])
    )


def contrib() -> ir.Model:
    draft = Draft()
    return draft.model(y=draft.op("Gelu", draft.input("x", "B"), domain="com.microsoft"))


def branch() -> ir.Model:
    inner = Draft()
    body = inner.model(z=inner.op("Identity", inner.weight(1.0))).graph
    draft = Draft()
    flag = draft.input("flag", dtype=BOOL)
    node = ir.node("If", [flag], {"then_branch": body, "else_branch": body})
    node.outputs[0].type, node.outputs[0].shape = ir.TensorType(ir.DataType.FLOAT), ir.Shape([])
    draft.nodes.append(node)
    return draft.model(y=node.outputs[0])


TRAPS: list[tuple[Callable[[], ir.Model], str]] = [
    (lambda: attention((6, ir.DataType.INT64)), "nonpad_kv_seqlen, which is dropped silently"),
    (lambda: attention(left_window_size=4), "left_window_size, which is ignored silently"),
    (lambda: attention(mask=False, is_causal=1), "is_causal, which is always aligned with the first key"),
    (lambda: attention(is_causal=1), "is_causal beside a mask"),
    (lambda: attention(softcap=5.0), "has a softcap"),
    (lambda: attention((4, ir.DataType.FLOAT), (5, ir.DataType.FLOAT)), "a past of its own"),
    (lambda: attention(outputs=3), "3 outputs, of which one is taken"),
    (lambda: attention(mask_type=ir.DataType.FLOAT), "a mask of FLOAT instead of BOOL"),
    (lambda: attention(softmax_precision=1), "softmax_precision, which is refused"),
    (lambda: dequantized(zero=np.array(3, np.int8)), "zero points other than 0"),
    (lambda: dequantized(codes=np.ones((8, 4), np.uint8)), "works on UINT8"),
    (lambda: dequantized(codes=np.ones((8, 4), ml_dtypes.uint4)), "works on UINT4"),
    (lambda: dequantized(gathered=True), "reads the integers codes without DequantizeLinear"),
    (lambda: cache(direct=False), "not a direct input and output"),
    (lambda: cache(mode="circular"), "writes its cache in a circle"),
    (lambda: cache(axis=1), "appends along axis 1"),
    (lambda: cache(letter="window"), "varies along window"),
    (optional_input, "the input optional has a default"),
    (unread_input, "the input nobody is not read"),
    (mixed, "mixes FLOAT and FLOAT16"),
    (contrib, "of the domain com.microsoft"),
    (branch, "has branches or a body"),
]


@pytest.mark.parametrize(("model", "trap"), TRAPS, ids=[trap for _, trap in TRAPS])
def test_each_trap_is_refused(model, trap):
    with pytest.raises(InputError) as caught:
        lint_tensorrt(model().graph)
    assert trap in str(caught.value)


@pytest.mark.parametrize(
    "model",
    [
        attention,
        lambda: attention(mask=False, scale=0.5),
        dequantized,
        lambda: dequantized(codes=np.ones((8, 4), ml_dtypes.int4)),
        lambda: dequantized(zero=np.array(0, np.int8)),
        cache,
        lambda: cache(axis=-2),
        encoded,
    ],
)
def test_what_tensorrt_reads_as_it_is_passes(model):
    assert lint_tensorrt(model().graph) == 0


def test_every_check_has_its_trap():
    hit = set()
    for model, _ in TRAPS:
        graph = model().graph
        hit |= {check for check in lint.NODE_TRAPS if any(check(node) for node in graph)}
        hit |= {check for check in lint.GRAPH_TRAPS if check(graph)}
    assert hit == {*lint.NODE_TRAPS, *lint.GRAPH_TRAPS}


def test_many_findings_are_counted():
    draft = Draft()
    x = draft.input("x", "B")
    for _ in range(9):
        x = draft.op("Gelu", x, domain="com.microsoft")
    with pytest.raises(InputError, match="and 4 more"):
        lint_tensorrt(draft.model(y=x).graph)
