from __future__ import annotations

import weakref
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper

import jisu
from jisu.exporter.gate import FP32_BUDGET, session_in_pieces
from jisu.exporter.gate.open_candidate import describe_pieces, open_candidate, open_candidate_one_pass
from jisu.exporter.gate.opened_sizes import opened_bytes
from jisu.exporter.gate.prove import prove
from jisu.exporter.gate.session_in_pieces import SessionInPieces
from jisu.exporter.sources import load_source
from jisu.runtimes.backends.ort.session import GIVES_BACK

IDS = np.array([[5, 9, 3, 77, 21], [1, 2, 3, 4, 6]])


@pytest.fixture(scope="module", params=["fp32", "int8", "6-bit codes", "fp16", "bf16"])
def artifact(request, tiny_artifact, tiny_source, tmp_path_factory):
    """One that computes in float32, one of integers, one whose codes lie in planes, one of half precision."""
    out = tmp_path_factory.mktemp("pieces") / "out"
    loose: dict[str, Any] = {"max_kl": 1000.0}
    if request.param == "fp32":
        return tiny_artifact
    if request.param == "6-bit codes":
        return jisu.export(tiny_source, out, precision="int4", calibration="none", **loose)
    if request.param in ("fp16", "bf16"):
        return jisu.export(tiny_source, out, precision=request.param, target="ort-cuda", **loose)
    return jisu.export(tiny_source, out, precision="int8", **loose)


@pytest.fixture
def small_pieces(monkeypatch):
    monkeypatch.setattr(session_in_pieces, "PIECE_BYTES", 1 << 10)


def answers(backend):
    """A prefill of two rows, a token behind it, and all logits of one row."""
    try:
        state = backend.new_state(2, 16)
        last = backend.forward(IDS, state).copy()
        token = backend.forward(np.array([[8], [9]]), state).copy()
        every = backend.forward(IDS[:1], backend.new_state(1, 8), logits="all").copy()
    finally:
        backend.close()
    return [last, token, every]


def test_pieces_give_what_the_whole_graph_gives(artifact, small_pieces):
    whole = answers(open_candidate(artifact))
    for open_bytes in (0, 200_000):
        candidate = open_candidate(artifact, open_bytes=open_bytes)
        pieces = candidate._opened.get()
        assert isinstance(pieces, SessionInPieces)
        assert pieces.pieces > 4
        for part, expected in zip(answers(candidate), whole, strict=True):
            np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)


def test_half_weights_that_stay_in_their_file_are_widened_piece_by_piece(
    tiny_source, tmp_path, small_pieces, monkeypatch
):
    artifact = jisu.export(tiny_source, tmp_path / "out", precision="fp16", target="ort-cuda", max_kl=1000.0)
    whole = answers(open_candidate(artifact))
    monkeypatch.setattr("jisu.runtimes.backends.ort_cpu.backend.WIDENED_WHEN_OPENED", 0)
    candidate = open_candidate(artifact, open_bytes=0)
    pieces = candidate._opened.get()
    assert pieces.pieces > 4
    assert pieces._last_call == GIVES_BACK
    for part, expected in zip(answers(candidate), whole, strict=True):
        np.testing.assert_allclose(part, expected, rtol=1e-5, atol=1e-6)


def test_the_last_piece_that_runs_has_the_settings_of_the_last_call(monkeypatch):
    monkeypatch.setattr(session_in_pieces, "PIECE_BYTES", 16)
    monkeypatch.setattr(session_in_pieces, "opened_sizes", lambda model, **_: {f"w{n}": 16 for n in range(6)})
    model, settings = chain(), []
    model.graph.output.append(helper.make_tensor_value_info("v3", TensorProto.FLOAT, [4]))
    session = SessionInPieces(model, opened(model, []), open_bytes=0, last_call={"a": "b"})
    monkeypatch.setattr(session_in_pieces, "_run_options", settings.append)
    session.run(["v3"], {"x": np.ones(4, np.float32)})
    session.run(["v6"], {"x": np.ones(4, np.float32)})
    assert settings == [{}, {}, {"a": "b"}, {}, {}, {}, {}, {}, {"a": "b"}]


def test_a_graph_that_fits_is_opened_as_users_do(tiny_artifact):
    candidate = open_candidate(tiny_artifact, open_bytes=1 << 30)
    assert not isinstance(candidate._opened.get(), SessionInPieces)
    candidate.close()
    assert describe_pieces(tiny_artifact, 1 << 30) is None


@pytest.fixture
def almost_open(tiny_artifact, monkeypatch):
    """Bytes that keep all pieces of the tiny model but the last ones open; a gate makes hundreds of calls."""
    whole = opened_bytes(onnx.load(tiny_artifact.cpu_graph, load_external_data=False))
    monkeypatch.setattr(session_in_pieces, "PIECE_BYTES", whole // 3)
    return whole - 1


def test_a_graph_in_pieces_passes_the_gate_and_says_so(tiny_artifact, tiny_source, almost_open):
    result = prove(tiny_artifact, load_source(tiny_source), budget=FP32_BUDGET, open_bytes=almost_open)
    assert result.accepted, result.summary
    assert any("ran in pieces" in note for note in result.notes)


def test_a_wrong_weight_is_seen_in_pieces(tiny_artifact, tiny_source, almost_open):
    other = load_source(tiny_source)
    other.module.get_parameter("model.layers.1.mlp.down_proj.weight").data *= 3
    result = prove(tiny_artifact, other, budget=FP32_BUDGET, open_bytes=almost_open)
    assert not result.accepted
    assert "layer 1" in (result.where or "")


def test_a_model_that_reads_whole_texts_runs_in_pieces(tiny_classifier, small_pieces):
    rows = [[5, 6, 7], [9] * 20, [11]]
    results = []
    for open_bytes in (None, 0):
        candidate = open_candidate_one_pass(tiny_classifier, open_bytes=open_bytes)
        results.append(candidate.outputs(rows))
        candidate.close()
    np.testing.assert_allclose(*results, rtol=1e-5, atol=1e-6)


def chain() -> onnx.ModelProto:
    """y = x * 2 six times over, each with a weight of its own."""
    nodes = [helper.make_node("Mul", [f"v{n}" if n else "x", f"w{n}"], [f"v{n + 1}"]) for n in range(6)]
    weights = [helper.make_tensor(f"w{n}", TensorProto.FLOAT, [4], [2.0] * 4) for n in range(6)]
    described = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [4]) for name in ("x", "v6")]
    graph = helper.make_graph(nodes, "chain", described[:1], described[1:], weights)
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def opened(model: onnx.ModelProto, alive: list[int]):
    """Opens pieces, and says at each opening how many are open then."""
    import onnxruntime  # its sessions live as long as one of their results does

    sessions: weakref.WeakSet[Any] = weakref.WeakSet()

    def open_piece(piece):
        session = onnxruntime.InferenceSession(piece.SerializeToString(), providers=["CPUExecutionProvider"])
        sessions.add(session)
        alive.append(len(sessions))
        return session

    return open_piece


@pytest.mark.parametrize(("open_bytes", "stay"), [(0, 0), (16, 0), (32, 1), (64, 3), (96, 6)])
def test_no_more_weights_are_open_than_are_allowed(open_bytes, stay, monkeypatch):
    monkeypatch.setattr(session_in_pieces, "PIECE_BYTES", 16)
    monkeypatch.setattr(session_in_pieces, "opened_sizes", lambda model, **_: {f"w{n}": 16 for n in range(6)})
    model, alive = chain(), []
    session = SessionInPieces(model, opened(model, alive), open_bytes=open_bytes)
    feeds = {"x": np.arange(4, dtype=np.float32)}
    for _ in range(2):
        np.testing.assert_array_equal(session.run(["v6"], feeds)[0], feeds["x"] * 2**6)
    assert session.pieces == 6
    assert session.open_pieces == stay
    assert max(alive) == min(6, stay + 1)
    assert len(alive) == 6 + (6 - stay)


def test_only_outputs_that_are_bound_are_kept(monkeypatch):
    monkeypatch.setattr(session_in_pieces, "PIECE_BYTES", 16)
    monkeypatch.setattr(session_in_pieces, "opened_sizes", lambda model, **_: {f"w{n}": 16 for n in range(6)})
    model = chain()
    model.graph.output.append(helper.make_tensor_value_info("v3", TensorProto.FLOAT, [4]))
    session = SessionInPieces(model, opened(model, []), open_bytes=0)
    feeds = {"x": np.ones(4, np.float32)}
    assert [one.name for one in session.get_outputs()] == ["v6", "v3"]
    assert session.run(["v6"], feeds)[0][0] == 64
    middle, last = session.run(["v3", "v6"], feeds)
    assert (middle[0], last[0]) == (8, 64)


def test_a_piece_that_gives_nothing_that_is_read_does_not_run(monkeypatch):
    monkeypatch.setattr(session_in_pieces, "PIECE_BYTES", 16)
    monkeypatch.setattr(session_in_pieces, "opened_sizes", lambda model, **_: {f"w{n}": 16 for n in range(6)})
    model, alive = chain(), []
    model.graph.node.append(helper.make_node("Mul", ["v3", "w0"], ["aside"]))
    model.graph.output.append(helper.make_tensor_value_info("aside", TensorProto.FLOAT, [4]))
    session = SessionInPieces(model, opened(model, alive), open_bytes=0)
    assert session.pieces == 7
    assert session.run(["v6"], {"x": np.ones(4, np.float32)})[0][0] == 64
    assert len(alive) == 6
    assert session.run(["aside"], {"x": np.ones(4, np.float32)})[0][0] == 16
    assert len(alive) == 6 + 4


def test_a_number_is_no_array_of_one(monkeypatch):
    monkeypatch.setattr(session_in_pieces, "PIECE_BYTES", 16)
    nodes = [helper.make_node("Add", ["a", "w"], ["b"]), helper.make_node("Neg", ["b"], ["c"])]
    values = [helper.make_tensor_value_info(name, TensorProto.FLOAT, []) for name in ("a", "c")]
    graph = helper.make_graph(
        nodes, "number", values[:1], values[1:], [helper.make_tensor("w", TensorProto.FLOAT, [], [2.0])]
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    (result,) = SessionInPieces(model, opened(model, []), open_bytes=0).run(None, {"a": np.float32(3)})
    assert result.shape == ()
    assert result == -5


def test_no_result_holds_the_session_that_made_it(monkeypatch):
    monkeypatch.setattr(session_in_pieces, "PIECE_BYTES", 16)
    monkeypatch.setattr(session_in_pieces, "opened_sizes", lambda model, **_: {f"w{n}": 16 for n in range(6)})
    session = SessionInPieces(chain(), opened(chain(), []), open_bytes=0)
    tokens, room = np.ones(4, np.float32), np.zeros(4, np.float32)
    binding = session.io_binding()
    binding.bind_input("x", "cpu", 0, tokens.dtype, tokens.shape, tokens.ctypes.data)
    binding.bind_output("v6", "cpu", 0, room.dtype, room.shape, room.ctypes.data)
    session.run_with_iobinding(binding)
    assert room.tolist() == [64.0] * 4
    assert binding.results == {}, "it is in the caller's memory"
    binding.bind_output("v6", "cpu")
    session.run_with_iobinding(binding)
    (result,) = binding.get_outputs()
    # A value of the runtime's would keep the session with all of its weights.
    assert result.data.flags.owndata
    assert result.numpy().tolist() == [64.0] * 4
