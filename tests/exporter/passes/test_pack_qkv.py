from __future__ import annotations

import numpy as np
import pytest

from jisu.exporter.passes.lower_gqa import DOMAIN
from jisu.exporter.passes.pack_qkv import pack_qkv
from tests.exporter.passes.draft import Draft, copied, noise, operators, run, signature_names

HEADS, KV_HEADS, SIZE, HIDDEN = 4, 2, 16, 24
# Three small products or one large one: the sums over 24 numbers may be taken in another order.
ROUNDING = 1e-5


def layer(draft, sources, *, biases=(True, True, True), names=("q_proj", "k_proj", "v_proj"), number=0, between=False):
    import onnx_ir as ir

    pasts = [
        draft.input(f"past_key_values.{number}.{name}", "B", KV_HEADS, "capacity", SIZE) for name in ("key", "value")
    ]
    parts = []
    for place, (source, name) in enumerate(zip(sources, names, strict=True)):
        width = (HEADS if place == 0 else KV_HEADS) * SIZE
        weight = draft.weight(noise(HIDDEN, width, seed=10 * number + place), f"layers.{number}.{name}.weight")
        part = draft.op("MatMul", source, weight, dims=["B", "T", width])
        if biases[place]:
            shape = (1, 1, width) if biases[place] == "wide" else (1,) if biases[place] == "single" else (width,)
            part = draft.op(
                "Add",
                draft.weight(noise(*shape, seed=place), f"layers.{number}.{name}.bias"),
                part,
                dims=["B", "T", width],
            )
        parts.append(draft.op("Neg", part) if between else part)
    inputs = [*parts, *pasts, draft.seqlens, draft.total]
    outputs = [
        ir.Value(name=f"y{number}", type=pasts[0].type, shape=ir.Shape(["B", "T", HEADS * SIZE])),
        ir.Value(name=f"present.{number}.key", type=pasts[0].type, shape=pasts[0].shape),
        ir.Value(name=f"present.{number}.value", type=pasts[0].type, shape=pasts[0].shape),
    ]
    attributes = {"num_heads": HEADS, "kv_num_heads": KV_HEADS}
    draft.nodes.append(ir.node("GroupQueryAttention", inputs, attributes, domain=DOMAIN, outputs=outputs))
    return {str(value.name): value for value in outputs}


def drafted(*, two_sources=False, layers=1, **options):
    import onnx_ir as ir

    draft = Draft()
    x = draft.input("x", "B", "T", HIDDEN)
    other = draft.input("other", "B", "T", HIDDEN) if two_sources else x
    draft.seqlens = draft.input("seqlens_k", "B", dtype=ir.DataType.INT32)
    draft.total = draft.input("total_sequence_length", dtype=ir.DataType.INT32)
    outputs = {}
    for number in range(layers):
        outputs |= layer(draft, [x, other, x], number=number, **options)
    model = draft.model(**outputs)
    model.graph.opset_imports[DOMAIN] = 1
    return model


def feeds(layers=1):
    return {
        "x": noise(2, 3, HIDDEN),
        "other": noise(2, 3, HIDDEN, seed=5),
        "seqlens_k": np.array([2, 2], dtype=np.int32),
        "total_sequence_length": np.array(3, dtype=np.int32),
        **{
            f"past_key_values.{n}.{name}": np.zeros((2, KV_HEADS, 8, SIZE), np.float32)
            for n in range(layers)
            for name in ("key", "value")
        },
    }


@pytest.mark.parametrize("biases", [(True, True, True), (False, False, False)])
def test_three_projections_become_one_with_the_same_numbers(biases):
    model = drafted(biases=biases)
    before, names = run(copied(model), feeds()), signature_names(model)
    assert pack_qkv(model.graph, quantized={}) == 1
    assert operators(model)["MatMul"] == 1
    assert "layers.0.qkv_proj.weight" in model.graph.initializers
    assert "layers.0.q_proj.weight" not in model.graph.initializers
    assert signature_names(model) == names
    after = run(model, feeds())
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, atol=ROUNDING)
    assert pack_qkv(model.graph, quantized={}) == 0


@pytest.mark.parametrize(
    "options",
    [
        {"two_sources": True},
        {"biases": (True, False, True)},
        {"biases": (True, True, False)},
        {"biases": ("single", "single", "single")},
        {"biases": ("wide", True, True)},
        {"between": True},
    ],
)
def test_near_misses_stay_as_they_are(options):
    """Keys of another tensor, only some biases, biases that broadcast, something between product and attention."""
    model = drafted(**options)
    before, numbers = operators(model), run(copied(model), feeds())
    assert pack_qkv(model.graph, quantized={}) == 0
    assert operators(model) == before
    np.testing.assert_array_equal(run(model, feeds())["y0"], numbers["y0"])


def test_a_projection_that_is_an_output_too_stays():
    model = drafted()
    graph = model.graph
    add = next(node for node in graph if node.op_type == "Add")
    graph.outputs.append(add.outputs[0])
    assert pack_qkv(graph, quantized={}) == 0


def test_layers_whose_weights_have_short_names_keep_their_own_weights():
    """layers.0.q, layers.1.q: what remains of both names is the same, and one would overwrite the other."""
    model = drafted(layers=2)
    for value in list(model.graph.initializers.values()):
        parts = str(value.name).split(".")
        if parts[0] == "layers":
            del model.graph.initializers[value.name]
            value.name = f"layers.{parts[2][0]}{parts[1]}{parts[3][0]}"
            model.graph.initializers[value.name] = value
    before = run(copied(model), feeds(2))
    assert pack_qkv(model.graph, quantized={}) == 2
    after = run(model, feeds(2))
    for name, expected in before.items():
        np.testing.assert_allclose(after[name], expected, atol=ROUNDING)
