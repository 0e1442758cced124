from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

from jisu.exporter.contract.artifact import Artifact
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.import_onnxruntime import import_onnxruntime
from jisu.exporter.contract.signature import Signature, StateSpec, TensorSpec
from jisu.runtimes.backends.forks import Reopened
from jisu.runtimes.backends.ort_cpu.backend import OrtCpuBackend, keeps_half, open_ort_cpu
from jisu.runtimes.engine import Engine
from jisu.runtimes.opening import load
from tests.runtimes.tiny_models import V, manifest, write_artifact

HIDDEN = 4


@pytest.fixture
def artifact(tmp_path: Path) -> Artifact:
    return write_artifact(tmp_path / "a", "ort-cpu")


def opened(artifact: Artifact) -> OrtCpuBackend:
    return open_ort_cpu(artifact, threads=1, source=None)


def with_signature(artifact: Artifact, **changes: Any) -> Artifact:
    signature = replace(artifact.manifest.signature, **changes)
    return replace(artifact, manifest=replace(artifact.manifest, signature=signature))


def test_past_and_present_share_their_memory(artifact: Artifact) -> None:
    state = opened(artifact).new_state(2, 8)
    assert all(past is present for past, present in zip(state.past, state.present, strict=True))
    assert {past.shape for past in state.past} == {(2, 1, 8, 16)}


def test_a_decode_step_prepares_its_memory_once(artifact: Artifact) -> None:
    backend = opened(artifact)
    state = backend.new_state(1, 8)
    first = backend.forward(np.array([[1]]), state)
    prepared = dict(state.prepared)
    second = backend.forward(np.array([[2]]), state)
    assert state.prepared == prepared
    assert first is second


def test_a_mask_with_room_hides_the_places_that_nobody_wrote(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jisu.runtimes.backends.ort_cpu.call._MASK_ROOM", 8)
    backend = opened(artifact)
    lengths, steps = np.array([5, 2]), 7  # the longer row goes past the first mask's places
    rng = np.random.default_rng(0)
    rows = [rng.integers(0, V, length + steps) for length in lengths]
    state = backend.new_state(2, 30)
    prompts = np.zeros((2, lengths.max()), np.int64)
    for row, length in enumerate(lengths):
        prompts[row, :length] = rows[row][:length]
    backend.forward(prompts, state, new_lengths=lengths)
    for step in range(steps):
        fed = np.array([[rows[row][length + step]] for row, length in enumerate(lengths)])
        actual = backend.forward(fed, state).copy()
        for row, length in enumerate(lengths):
            alone = backend.forward(rows[row][None, : length + step + 1], backend.new_state(1, 30))
            np.testing.assert_allclose(actual[row], alone[0], rtol=1e-4, atol=1e-3)


def test_the_last_positions_are_reached_though_a_mask_has_room_for_more(
    artifact: Artifact, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jisu.runtimes.backends.ort_cpu.call._MASK_ROOM", 100)
    backend = opened(artifact)
    assert backend.max_positions
    state = backend.new_state(1, backend.max_positions + 70)
    backend.forward(np.ones((1, backend.max_positions - 1), np.int64), state)
    assert np.isfinite(backend.forward(np.array([[1]]), state)).all()


def test_a_truncated_graph_is_named(artifact: Artifact) -> None:
    data = artifact.graph.read_bytes()
    artifact.graph.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="bytes instead of"):
        load(artifact.folder)
    with pytest.raises(InputError, match="not a complete ONNX file"):
        opened(artifact)


def test_an_empty_graph_is_named(artifact: Artifact) -> None:
    artifact.graph.write_bytes(b"")
    with pytest.raises(InputError, match="not a complete ONNX file"):
        opened(artifact)


def test_a_graph_that_the_runtime_refuses_is_named(artifact: Artifact) -> None:
    model = onnx.load(artifact.graph)
    model.graph.node[0].op_type = "NoSuchOperator"
    onnx.save(model, artifact.graph)
    with pytest.raises(InputError, match=r"ONNX Runtime .* cannot open .*model\.onnx"):
        opened(artifact)


def test_a_graph_of_another_signature_is_refused_with_every_difference(artifact: Artifact) -> None:
    signature = artifact.manifest.signature
    wrong = with_signature(
        artifact,
        inputs=(*signature.inputs[:1], TensorSpec(name="past_length", dtype="int64", dims=("B",))),
        outputs=(TensorSpec(name="logits", dtype="float16", dims=("B", "K", V + 1)),),
    )
    with pytest.raises(InputError) as caught:
        opened(wrong)
    message = str(caught.value)
    for part in ("past_length is missing", "attention_mask is not in the manifest", "float16", f"{V + 1}"):
        assert part in message


def test_state_of_another_shape_is_refused(artifact: Artifact) -> None:
    spec = artifact.manifest.signature.state[0]
    wrong = with_signature(artifact, state=(replace(spec, dims=("B", 2, "capacity", 16)),))
    with pytest.raises(InputError, match=r"past_key_values\.0\.key has the shape"):
        opened(wrong)


def test_a_frozen_dimension_is_refused(artifact: Artifact) -> None:
    model = onnx.load(artifact.graph)
    model.graph.output[0].type.tensor_type.shape.dim[1].dim_value = 1
    onnx.save(model, artifact.graph)
    with pytest.raises(InputError, match="the output logits has the shape"):
        opened(artifact)


def test_a_state_dim_without_a_meaning_is_refused(artifact: Artifact) -> None:
    spec = artifact.manifest.signature.state[0]
    wrong = with_signature(artifact, state=(replace(spec, dims=("B", 1, "capacity", "D")),))
    with pytest.raises(InputError, match=r"dim D of the state past_key_values\.0\.key is not known"):
        opened(wrong)


def test_threads_are_set(artifact: Artifact) -> None:
    backend = open_ort_cpu(artifact, threads=2, source=None)
    assert backend._opened.get().get_session_options().intra_op_num_threads == 2  # type: ignore[union-attr]


def test_states_without_rows_are_refused(artifact: Artifact) -> None:
    with pytest.raises(InputError, match="at least one row"):
        opened(artifact).new_state(0, 4)


def recurrent_weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(5)
    shapes = {"embed": (V, HIDDEN), "W": (1, HIDDEN, HIDDEN), "R": (1, HIDDEN, HIDDEN), "head": (HIDDEN, V)}
    return {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}


def recurrent_logits(tokens: list[int]) -> np.ndarray:
    w = recurrent_weights()
    h, out = np.zeros(HIDDEN), []
    for token in tokens:
        h = np.tanh(w["W"][0] @ w["embed"][token] + w["R"][0] @ h)
        out.append(h @ w["head"])
    return np.array(out)


@pytest.fixture
def recurrent(tmp_path: Path) -> Artifact:
    """An RNN whose state has its rows on the second axis."""
    dims = (1, "B", HIDDEN)
    contract = Signature(
        inputs=(TensorSpec(name="input_ids", dtype="int64", dims=("B", "T")),),
        outputs=(TensorSpec(name="logits", dtype="float32", dims=("B", "T", V)),),
        state=(StateSpec(past="past_h", present="present_h", kind="recurrent", dtype="float32", dims=dims),),
    )
    nodes = [
        helper.make_node("Gather", ["embed", "input_ids"], ["x"]),
        helper.make_node("Transpose", ["x"], ["xt"], perm=[1, 0, 2]),
        helper.make_node("RNN", ["xt", "W", "R", "", "", "past_h"], ["y", "present_h"], hidden_size=HIDDEN),
        helper.make_node("Squeeze", ["y", "one"], ["ys"]),
        helper.make_node("Transpose", ["ys"], ["yt"], perm=[1, 0, 2]),
        helper.make_node("MatMul", ["yt", "head"], ["logits"]),
    ]
    graph = helper.make_graph(
        nodes,
        "rnn",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", "T"]),
            helper.make_tensor_value_info("past_h", TensorProto.FLOAT, list(dims)),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", "T", V]),
            helper.make_tensor_value_info("present_h", TensorProto.FLOAT, list(dims)),
        ],
        [numpy_helper.from_array(value, name) for name, value in recurrent_weights().items()]
        + [numpy_helper.from_array(np.array([1], np.int64), "one")],
    )
    folder = tmp_path / "rnn"
    folder.mkdir()
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 22)], ir_version=10)
    onnx.save(model, folder / "model.onnx")
    base = manifest("ort-cpu")
    facts = replace(base.model, max_positions=None)
    return Artifact(folder=folder, manifest=replace(base, signature=contract, model=facts))


A, B = [3, 7, 1, 9], [8, 2]


def test_recurrent_rows_of_unequal_lengths_are_right(recurrent: Artifact) -> None:
    backend = opened(recurrent)
    state = backend.new_state(2, 16)
    out = backend.forward(np.array([A, [*B, 0, 0]]), state, new_lengths=np.array([4, 2]))
    np.testing.assert_allclose(out[:, 0], [recurrent_logits(A)[-1], recurrent_logits(B)[-1]], atol=1e-4)
    for step in range(1, 4):  # an odd and an even number of exchanges of the two memories
        out = backend.forward(np.array([[5], [6]]), state)
        np.testing.assert_allclose(out[0, 0], recurrent_logits(A + [5] * step)[-1], atol=1e-4)
        np.testing.assert_allclose(out[1, 0], recurrent_logits(B + [6] * step)[-1], atol=1e-4)


@pytest.mark.parametrize("steps", [0, 1])
def test_recurrent_state_is_reordered_and_emptied(recurrent: Artifact, steps: int) -> None:
    backend = opened(recurrent)
    state = backend.new_state(2, 16)
    backend.forward(np.array([A, A[::-1]]), state)
    for _ in range(steps):
        backend.forward(np.array([[5], [5]]), state)
    state.reorder(np.array([1, 1]))
    state.rewind(np.array([4 + steps, 0]))
    out = backend.forward(np.array([[6], [6]]), state)
    np.testing.assert_allclose(out[0, 0], recurrent_logits([*A[::-1], *[5] * steps, 6])[-1], atol=1e-4)
    np.testing.assert_allclose(out[1, 0], recurrent_logits([6])[-1], atol=1e-4)


@pytest.mark.parametrize("steps", [0, 1])
def test_a_recurrent_row_of_another_state_goes_on_where_it_was(recurrent: Artifact, steps: int) -> None:
    backend = opened(recurrent)
    state, part = backend.new_state(2, 16), backend.new_state(1, 4)
    backend.forward(np.array([A, A[::-1]]), state)
    for _ in range(steps):
        backend.forward(np.array([[5], [5]]), state)
    backend.forward(np.array([B]), part)
    state.take_rows(np.array([1]), part)
    for step in range(1, 3):
        out = backend.forward(np.array([[6], [6]]), state)
        np.testing.assert_allclose(out[0, 0], recurrent_logits(A + [5] * steps + [6] * step)[-1], atol=1e-4)
        np.testing.assert_allclose(out[1, 0], recurrent_logits(B + [6] * step)[-1], atol=1e-4)


def test_a_recurrent_state_cannot_go_back_to_the_middle(recurrent: Artifact) -> None:
    backend = opened(recurrent)
    state = backend.new_state(1, 16)
    backend.forward(np.array([A]), state)
    with pytest.raises(InputError, match="recurrent state cannot be rewound"):
        state.rewind(np.array([2]))


def test_a_recurrent_model_without_a_limit_generates_in_batches(recurrent: Artifact) -> None:
    engine = Engine(recurrent, opened(recurrent))
    results = engine.generate_ids([A, B], max_new_tokens=9, ignore_eos=True)
    for prompt, result in zip((A, B), results, strict=True):
        tokens = list(prompt)
        for _ in range(9):
            tokens.append(int(recurrent_logits(tokens)[-1].argmax()))
        assert list(result.token_ids) == tokens[len(prompt) :]


ONE_TOKEN_SIZE = 3


@pytest.fixture(scope="module")
def one_token(tmp_path_factory):
    """h <- h / 2 + embedding + position, logits are h times a matrix; one token a call. With the truth in numpy."""
    random = np.random.default_rng(5)
    embed, head = (random.normal(size=shape).astype(np.float32) for shape in ((V, ONE_TOKEN_SIZE), (ONE_TOKEN_SIZE, V)))
    constants = {"embed": embed, "head": head, "half": np.float32(0.5), "one": np.array([1])}
    nodes = [
        helper.make_node("Gather", ["embed", "input_ids"], ["x3"]),
        helper.make_node("Squeeze", ["x3", "one"], ["x"]),
        helper.make_node("Mul", ["past_state.0", "half"], ["faded"]),
        helper.make_node("Add", ["faded", "x"], ["mixed"]),
        helper.make_node("Cast", ["past_length"], ["place"], to=TensorProto.FLOAT),
        helper.make_node("Unsqueeze", ["place", "one"], ["places"]),
        helper.make_node("Add", ["mixed", "places"], ["present_state.0"]),
        helper.make_node("MatMul", ["present_state.0", "head"], ["flat"]),
        helper.make_node("Unsqueeze", ["flat", "one"], ["logits"]),
    ]
    state = StateSpec(
        past="past_state.0", present="present_state.0", kind="recurrent", dtype="float32", dims=("B", ONE_TOKEN_SIZE)
    )
    signature = Signature(
        inputs=(
            TensorSpec(name="input_ids", dtype="int64", dims=("B", 1)),
            TensorSpec(name="past_length", dtype="int64", dims=("B",)),
        ),
        outputs=(TensorSpec(name="logits", dtype="float32", dims=("B", 1, V)),),
        state=(state,),
    )
    graph = helper.make_graph(
        nodes,
        "one token",
        [
            helper.make_tensor_value_info("input_ids", TensorProto.INT64, ["B", 1]),
            helper.make_tensor_value_info("past_length", TensorProto.INT64, ["B"]),
            helper.make_tensor_value_info("past_state.0", TensorProto.FLOAT, ["B", ONE_TOKEN_SIZE]),
        ],
        [
            helper.make_tensor_value_info("logits", TensorProto.FLOAT, ["B", 1, V]),
            helper.make_tensor_value_info("present_state.0", TensorProto.FLOAT, ["B", ONE_TOKEN_SIZE]),
        ],
        [numpy_helper.from_array(np.asarray(value), name) for name, value in constants.items()],
    )
    path = tmp_path_factory.mktemp("one") / "model.onnx"
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 24)], ir_version=10), path)
    session = import_onnxruntime().InferenceSession(str(path), providers=["CPUExecutionProvider"])

    def truth(tokens):
        hidden, actual = np.zeros(ONE_TOKEN_SIZE), []
        for place, token in enumerate(tokens):
            hidden = hidden / 2 + embed[token] + place
            actual.append(hidden @ head)
        return np.array(actual)

    opened = Reopened(lambda: session, RuntimeError)
    return OrtCpuBackend(opened, signature, vocab_size=V, max_positions=None), truth


@pytest.mark.parametrize("expected", ["last", "all"])
def test_rows_of_unequal_lengths_run_token_by_token(one_token, expected):
    backend, truth = one_token
    rows = [[3, 7, 1, 9, 2], [8, 2], [5, 5, 5, 4]]
    more = [[1, 2, 3], [4], [6, 7]]
    state = backend.new_state(3, 9)
    for before, now in (([[], [], []], rows), (rows, more)):
        width = max(map(len, now))
        ids = np.array([row + [0] * (width - len(row)) for row in now])
        lengths = np.array([len(row) for row in now])
        actual = backend.forward(ids, state, new_lengths=lengths, logits=expected)
        for index, (past, new) in enumerate(zip(before, now, strict=True)):
            whole = truth(past + new)[len(past) :]
            ours = actual[index, : len(new)] if expected == "all" else actual[index]
            np.testing.assert_allclose(ours, whole if expected == "all" else whole[-1:], rtol=1e-4, atol=1e-4)
    assert state.lengths.tolist() == [8, 3, 6]
    step = backend.forward(np.array([[1], [2], [3]]), state)
    for index, (past, new, last) in enumerate(zip(rows, more, (1, 2, 3), strict=True)):
        np.testing.assert_allclose(step[index, 0], truth([*past, *new, last])[-1], rtol=1e-4, atol=1e-4)


def test_rows_of_equal_lengths_run_token_by_token_together(one_token):
    backend, truth = one_token
    state = backend.new_state(2, 6)
    rows = [[3, 7, 1], [8, 2, 4]]
    actual = backend.forward(np.array(rows), state, logits="all")
    np.testing.assert_allclose(actual, [truth(row) for row in rows], rtol=1e-4, atol=1e-4)


def test_a_long_row_among_short_ones_is_not_paid_for_by_all(tmp_path):
    write_artifact(tmp_path / "artifact", "ort-cpu")
    backend = load(tmp_path / "artifact", threads=1).backend
    seen = []
    run = backend._row_by_row
    backend._row_by_row = lambda *args: seen.append(args[3].tolist()) or run(*args)
    for lengths, alone in (([60, 1, 1, 2], True), ([60, 50, 55, 60], False), ([5, 1, 1, 2], False)):
        ids = np.arange(len(lengths) * max(lengths)).reshape(len(lengths), -1) % V
        actual = backend.forward(ids, backend.new_state(len(lengths), 64), new_lengths=np.array(lengths))
        assert bool(seen) == alone
        seen.clear()
        for row, length in enumerate(lengths):
            expected = backend.forward(ids[row : row + 1, :length], backend.new_state(1, 64))
            np.testing.assert_allclose(actual[row], expected[0], rtol=1e-4, atol=1e-4)


def test_a_backend_that_rested_computes_as_before_with_the_state_it_had(artifact: Artifact) -> None:
    backend = opened(artifact)
    tokens = np.array([[1, 2, 3]])
    expected = backend.forward(np.array([[1, 2, 3, 4]]), backend.new_state(1, 8)).copy()
    state = backend.new_state(1, 8)
    backend.forward(tokens, state)
    backend.rest()
    np.testing.assert_allclose(backend.forward(np.array([[4]]), state), expected, rtol=1e-5, atol=1e-5)
    backend.close()
    backend.rest()
    with pytest.raises(InputError):
        backend.forward(tokens, state)


def test_only_large_graphs_for_gpus_keep_their_halves(artifact: Artifact) -> None:
    gpu: Any = SimpleNamespace(graph="model.onnx", cpu_graph="model.cpu.onnx", size=600 << 20)
    assert keeps_half(gpu)
    gpu.size = 500 << 20
    assert not keeps_half(gpu)
    assert not keeps_half(artifact)  # its one graph is for CPUs
