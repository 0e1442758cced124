"""One tiny attention model, written four times: two ONNX graphs, a torch module, and numpy without a cache."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
from onnx import TensorProto, helper, numpy_helper

from jisu.exporter.contract.artifact import Artifact, Manifest, ModelFacts, record_files
from jisu.exporter.contract.signature import Signature, StateSpec, TensorSpec
from jisu.runtimes.backends.row_lengths import check_call, check_reorder, check_rewind, check_taken_rows

V, C, H, HKV, D, POSITIONS = 23, 8, 2, 1, 16, 64
EOS = 2


def weights() -> dict[str, np.ndarray]:
    random = np.random.default_rng(7)
    shapes = {"embed": (V, C), "q": (C, H * D), "k": (C, HKV * D), "v": (C, HKV * D), "o": (H * D, C), "head": (C, V)}
    actual = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    angles = np.arange(POSITIONS)[:, None] / 100.0 ** (np.arange(D // 2) / (D // 2))
    return {**actual, "cos": np.cos(angles).astype(np.float32), "sin": np.sin(angles).astype(np.float32)}


def signature(target: str) -> Signature:
    length = TensorSpec(name="attention_mask", dtype="int64", dims=("B", "S"))
    if target != "ort-cpu":
        length = TensorSpec(name="past_length", dtype="int64", dims=("B",))
    return Signature(
        inputs=(
            TensorSpec(name="input_ids", dtype="int64", dims=("B", "T")),
            length,
            TensorSpec(name="logits_positions", dtype="int64", dims=("B" if target == "tensorrt" else "P", "K")),
        ),
        outputs=(TensorSpec(name="logits", dtype="float32", dims=("B", "K", V)),),
        state=tuple(
            StateSpec(
                past=f"past_key_values.0.{part}",
                present=f"present.0.{part}",
                kind="kv",
                dtype="float32",
                dims=("B", HKV, "capacity", D),
            )
            for part in ("key", "value")
        ),
    )


def manifest(target: str) -> Manifest:
    facts = ModelFacts(
        architecture="Tiny",
        vocab_size=V,
        max_positions=POSITIONS,
        layers=1,
        parameters=0,
        bos=1,
        eos=(EOS,),
        pad=None,
    )
    return Manifest(
        target=target,
        precision="fp32",
        model=facts,
        signature=signature(target),
        recipe=[],
        gate={},
        source={},
        versions={},
    )


def write_artifact(folder: Path, target: str) -> Artifact:
    """An artifact folder with the graph, hashes and a manifest, without a tokenizer."""
    folder.mkdir(parents=True, exist_ok=True)
    onnx.save(build_graph(target), folder / "model.onnx")
    return write_manifest(folder, target)


def write_manifest(folder: Path, target: str) -> Artifact:
    done = Manifest(**{**manifest(target).__dict__, "files": record_files(folder)})
    (folder / "manifest.json").write_text(done.to_json(), encoding="utf-8")
    return Artifact(folder=folder, manifest=done)


def build_graph(target: str) -> onnx.ModelProto:
    nodes: list[Any] = []
    constants = {
        "zero": [0],
        "one": [1],
        "two": [2],
        "minus1": [-1],
        "logits_positions": [[-1]],
        "scalar1": 1,
        "scalar0": 0,
        "heads": [0, 0, H, D],
        "kvheads": [0, 0, HKV, D],
        "flat": [0, 0, H * D],
    }
    if target == "tensorrt":  # which reads a default as a constant
        del constants["logits_positions"]
    initializers = [numpy_helper.from_array(value, name) for name, value in weights().items()]
    initializers += [numpy_helper.from_array(np.array(value, np.int64), name) for name, value in constants.items()]

    def add(op: str, inputs: list[str], *outputs: str, **attributes: Any) -> None:
        nodes.append(helper.make_node(op, inputs, list(outputs), **attributes))

    add("Gather", ["embed", "input_ids"], "x")
    for name in "qkv":
        add("MatMul", ["x", name], f"x_{name}")
    add("Shape", ["input_ids"], "length_T", start=1, end=2)
    past, present = [[f"{side}.{part}" for part in ("key", "value")] for side in ("past_key_values.0", "present.0")]
    if target == "ort-cpu":
        add("ReduceSum", ["attention_mask", "one"], "total", keepdims=0)
        add("Sub", ["total", "scalar1"], "last")
        add("Cast", ["last"], "last32", to=TensorProto.INT32)
        add("Shape", ["attention_mask"], "length_S", start=1, end=2)
        add("Squeeze", ["length_S"], "S")
        add("Cast", ["S"], "S32", to=TensorProto.INT32)
        add(
            "GroupQueryAttention",
            ["x_q", "x_k", "x_v", *past, "last32", "S32", "cos", "sin"],
            "attended",
            *present,
            domain="com.microsoft",
            num_heads=H,
            kv_num_heads=HKV,
            do_rotary=1,
        )
        add("Sub", ["total", "length_T"], "before")
        add("Max", ["before", "scalar0"], "past_len")
        add("Sub", ["total", "past_len"], "new_len")
    else:
        add("Squeeze", ["length_T"], "T")
        add("Range", ["scalar0", "T", "scalar1"], "steps")
        add("Unsqueeze", ["past_length", "one"], "past_column")
        add("Add", ["past_column", "steps"], "positions")
        # Padding may stand behind the table's end; which row it takes there does not matter.
        nodes.append(helper.make_node("Constant", [], ["end"], value_int=POSITIONS - 1))
        add("Min", ["positions", "end"], "safe_positions")
        for name, shape in (("q", "heads"), ("k", "kvheads"), ("v", "kvheads")):
            add("Reshape", [f"x_{name}", shape], f"h_{name}")
            add("Transpose", [f"h_{name}"], f"t_{name}", perm=[0, 2, 1, 3])
        for name in "qk":
            add("RotaryEmbedding", [f"t_{name}", "cos", "sin", "safe_positions"], f"r_{name}")
        add("TensorScatter", [past[0], "r_k", "past_length"], present[0], axis=2)
        add("TensorScatter", [past[1], "t_v", "past_length"], present[1], axis=2)
        add("Shape", [present[0]], "length_cap", start=2, end=3)
        add("Squeeze", ["length_cap"], "cap")
        add("Range", ["scalar0", "cap", "scalar1"], "slots")
        nodes.append(helper.make_node("Constant", [], ["axes12"], value_ints=[1, 3]))
        add("Unsqueeze", ["positions", "axes12"], "query_at")
        add("LessOrEqual", ["slots", "query_at"], "mask")
        add("Attention", ["r_q", present[0], present[1], "mask"], "attended_heads")
        add("Transpose", ["attended_heads"], "attended_t", perm=[0, 2, 1, 3])
        add("Reshape", ["attended_t", "flat"], "attended")
        add("Mul", ["past_length", "scalar0"], "zeros")
        add("Add", ["zeros", "length_T"], "new_len")
    add("MatMul", ["attended", "o"], "projected")
    add("Add", ["x", "projected"], "hidden")
    add("Unsqueeze", ["new_len", "one"], "new_column")
    add("Add", ["logits_positions", "new_column"], "from_end")
    add("Less", ["logits_positions", "scalar0"], "is_negative")
    add("Where", ["is_negative", "from_end", "logits_positions"], "wanted_small")
    add("Mul", ["new_column", "scalar0"], "zero_column")
    add("Add", ["wanted_small", "zero_column"], "wanted")
    add("Unsqueeze", ["wanted", "two"], "wanted3")
    add("GatherND", ["hidden", "wanted3"], "picked", batch_dims=1)
    add("MatMul", ["picked", "head"], "logits")

    contract = signature(target)
    types = {"int64": TensorProto.INT64, "float32": TensorProto.FLOAT}

    def info(name: str, dtype: str, dims: tuple[int | str, ...]) -> Any:
        return helper.make_tensor_value_info(name, types[dtype], list(dims))

    graph = helper.make_graph(
        nodes,
        "tiny",
        [info(s.name, s.dtype, s.dims) for s in contract.inputs]
        + [info(s.past, s.dtype, s.dims) for s in contract.state],
        [info(s.name, s.dtype, s.dims) for s in contract.outputs]
        + [info(s.present, s.dtype, s.dims) for s in contract.state],
        initializers,
    )
    opsets = [helper.make_opsetid("", 24), helper.make_opsetid("com.microsoft", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


class TinyModule(torch.nn.Module):
    """The same model with the traced interface."""

    def __init__(self) -> None:
        super().__init__()
        self.w = {name: torch.from_numpy(value) for name, value in weights().items()}

    def state_spec(self) -> list[tuple[str, str, tuple[int | str, ...], torch.dtype]]:
        return [(name, "kv", ("B", HKV, "capacity", D), torch.float32) for name in ("key", "value")]

    def forward(
        self, input_ids: torch.Tensor, past_length: torch.Tensor, state: list[torch.Tensor]
    ) -> tuple[torch.Tensor, list[torch.Tensor]]:
        w, (batch, width) = self.w, input_ids.shape
        x = w["embed"][input_ids]
        positions = past_length[:, None] + torch.arange(width)
        safe = positions.clamp(max=POSITIONS - 1)
        cos, sin = w["cos"][safe][:, :, None], w["sin"][safe][:, :, None]

        def rotate(t: torch.Tensor) -> torch.Tensor:
            a, b = t[..., : D // 2], t[..., D // 2 :]
            return torch.cat([a * cos - b * sin, b * cos + a * sin], dim=-1)

        q = rotate((x @ w["q"]).view(batch, width, H, D))
        k = rotate((x @ w["k"]).view(batch, width, HKV, D))
        v = (x @ w["v"]).view(batch, width, HKV, D)
        keys, values = state
        index = positions[:, None, :, None].expand(batch, HKV, width, D)
        keys = keys.scatter(2, index, k.transpose(1, 2))
        values = values.scatter(2, index, v.transpose(1, 2))
        mask = torch.arange(keys.shape[2]) <= positions[:, None, :, None]
        attended = torch.nn.functional.scaled_dot_product_attention(
            q.transpose(1, 2), keys, values, attn_mask=mask, enable_gqa=True
        )
        hidden = x + attended.transpose(1, 2).reshape(batch, width, H * D) @ w["o"]
        return hidden @ w["head"], [keys, values]


def logits_of(tokens: list[int]) -> np.ndarray:
    """float32 [n, V] of a whole sequence, computed in float64 without a cache: what every backend must give."""
    w = {name: value.astype(np.float64) for name, value in weights().items()}
    x = w["embed"][tokens]
    n = len(tokens)

    def rotate(t: np.ndarray) -> np.ndarray:
        a, b = t[..., : D // 2], t[..., D // 2 :]
        cos, sin = w["cos"][:n, None], w["sin"][:n, None]
        return np.concatenate([a * cos - b * sin, b * cos + a * sin], axis=-1)

    q = rotate((x @ w["q"]).reshape(n, H, D))
    k = np.repeat(rotate((x @ w["k"]).reshape(n, HKV, D)), H // HKV, axis=1)
    v = np.repeat((x @ w["v"]).reshape(n, HKV, D), H // HKV, axis=1)
    scores = np.einsum("qhd,khd->hqk", q, k) / np.sqrt(D)
    scores = np.where(np.tril(np.ones((n, n), bool)), scores, -np.inf)
    scores = np.exp(scores - scores.max(-1, keepdims=True))
    scores /= scores.sum(-1, keepdims=True)
    attended = np.einsum("hqk,khd->qhd", scores, v).reshape(n, H * D)
    return ((x + attended @ w["o"]) @ w["head"]).astype(np.float32)


class ListState:
    """Remembers the tokens themselves."""

    def __init__(self, batch: int, capacity: int) -> None:
        self.rows: list[list[int]] = [[] for _ in range(batch)]
        self.capacity = capacity

    @property
    def lengths(self) -> np.ndarray:
        return np.array([len(row) for row in self.rows], np.int64)

    def rewind(self, lengths: np.ndarray) -> None:
        check_rewind(np.asarray(lengths), current=self.lengths, recurrent=False)
        self.rows = [row[:length] for row, length in zip(self.rows, lengths, strict=True)]

    def reorder(self, rows: np.ndarray) -> None:
        check_reorder(np.asarray(rows), batch=len(self.rows))
        self.rows = [list(self.rows[row]) for row in rows]

    def take_rows(self, rows: np.ndarray, other: Any) -> None:
        check_taken_rows(np.asarray(rows), lengths=other.lengths, batch=len(self.rows), capacity=self.capacity)
        for row, tokens in zip(rows, other.rows, strict=True):
            self.rows[row] = list(tokens)


class ListBackend:
    """A backend in numpy that computes every sequence from its beginning."""

    name = "list"
    vocab_size = V
    max_positions: int | None = POSITIONS

    def __init__(self) -> None:
        self.calls: list[tuple[int, int]] = []

    def new_state(self, batch: int, capacity: int) -> ListState:
        return ListState(batch, capacity)

    def logits(self, tokens: list[int]) -> np.ndarray:
        return logits_of(tokens)

    def forward(self, token_ids: Any, state: Any, *, new_lengths: Any = None, logits: str = "last") -> Any:
        new = check_call(
            token_ids, new_lengths, lengths=state.lengths, capacity=state.capacity, vocab_size=self.vocab_size
        )
        self.calls.append(token_ids.shape)
        out = np.zeros((*token_ids.shape, self.vocab_size), np.float32)
        for row, count in enumerate(new.tolist()):
            state.rows[row] += token_ids[row, :count].tolist()
            out[row, :count] = self.logits(state.rows[row])[-count:]
        if logits == "last":
            return out[np.arange(len(new)), new - 1][:, None]
        return out

    def close(self) -> None:
        pass
