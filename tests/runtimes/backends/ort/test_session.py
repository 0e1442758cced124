from __future__ import annotations

import subprocess
import sys
import textwrap
from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper

SIZE, LAYERS = 1024, 24  # 48 MB of halves, 96 MB of float32
CODE = """
import sys
from pathlib import Path
import numpy as np
from jisu.runtimes.backends.ort.session import open_session

def anonymous():
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("RssAnon")) // 1024

session = open_session(Path(sys.argv[1]), threads=1, keeps_half=sys.argv[2] == "keep")
x = np.ones((1, int(sys.argv[3])), np.float32)
before = anonymous()
y = session.run(None, {"x": x})[0]
print(before, anonymous(), float(y.sum()))
"""


@pytest.fixture(scope="module")
def graph(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Products with weights of float16 that are cast before each, as graphs for GPUs are written for CPUs."""
    path = tmp_path_factory.mktemp("half") / "model.onnx"
    draw = np.random.default_rng(0)
    nodes, names = [], ["x"]
    for layer in range(LAYERS):
        nodes.append(helper.make_node("Cast", [f"w{layer}"], [f"wide{layer}"], to=TensorProto.FLOAT))
        nodes.append(helper.make_node("MatMul", [names[-1], f"wide{layer}"], [f"y{layer}"]))
        names.append(f"y{layer}")
    model = helper.make_model(
        helper.make_graph(
            nodes,
            "half",
            [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["B", SIZE])],
            [helper.make_tensor_value_info(names[-1], TensorProto.FLOAT, ["B", SIZE])],
            [numpy_helper.from_array(_weights(draw), f"w{layer}") for layer in range(LAYERS)],
        ),
        opset_imports=[helper.make_opsetid("", 21)],
        ir_version=10,
    )
    onnx.save(model, path, save_as_external_data=True, location="model.onnx.data")
    return path


def _weights(draw: np.random.Generator) -> np.ndarray:
    return (draw.standard_normal((SIZE, SIZE)) / SIZE**0.5).astype(np.float16)


def run(graph: Path, way: str) -> tuple[int, int, float]:
    """Megabytes of its own when opened and after a call, and the sum of the output."""
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(CODE), str(graph), way, str(SIZE)],
        capture_output=True,
        text=True,
        timeout=120,
        check=True,
    )
    before, after, total = done.stdout.split()
    return int(before), int(after), float(total)


@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
def test_half_weights_stay_in_their_file(graph: Path) -> None:
    opened, called, total = run(graph, "keep")
    widened, _, expected = run(graph, "widen")
    assert widened - opened > 60  # 96 MB of float32 that are made once
    assert called - opened < 30  # those of a product or two at a time
    assert total == pytest.approx(expected, abs=1e-3)  # packed products are added in another order
