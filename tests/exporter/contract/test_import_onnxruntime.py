from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from jisu.exporter.contract.import_onnxruntime import OPT_OUT

# Its packages leave telemetry alone where they see continuous integration or a test run by these.
SUPPRESSING = ("CI", "GITHUB_ACTIONS", "TF_BUILD", "GITLAB_CI", "PYTEST_CURRENT_TEST", OPT_OUT)
SESSION = """
from onnx import helper
value = helper.make_tensor_value_info
graph = helper.make_graph([helper.make_node("Abs", ["x"], ["y"])], "g", [value("x", 1, [1])], [value("y", 1, [1])])
model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
"""


def written_by(code: str, home: Path) -> list[Path]:
    """Files below a new home folder after a process has run."""
    environment = {name: value for name, value in os.environ.items() if name not in SUPPRESSING}
    environment |= {"HOME": str(home), "XDG_CACHE_HOME": str(home / ".cache"), "PYTHONDONTWRITEBYTECODE": "1"}
    subprocess.run([sys.executable, "-c", code], check=True, env=environment, timeout=120)
    return [path for path in home.rglob("*") if path.is_file()]


def test_a_session_leaves_nothing_below_the_home_folder(tmp_path: Path) -> None:
    code = (
        "from jisu.exporter.contract.import_onnxruntime import import_onnxruntime\n"
        f"onnxruntime = import_onnxruntime()\n{SESSION}"
    )
    assert written_by(code, tmp_path) == []


def test_the_probe_of_the_machine_leaves_nothing_either(tmp_path: Path) -> None:
    assert written_by("from jisu.runtimes.machine.probe import ORT_PROBE; exec(ORT_PROBE)", tmp_path) == []
