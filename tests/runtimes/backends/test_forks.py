"""Children of a process that has opened a model: whatever they do, they end. Each is a Python of its own that forks."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.forks import Reopened, forbid_to_children
from tests.runtimes.tiny_models import write_artifact

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")
BEGIN = """
import gc, os, sys, threading
from jisu.runtimes.opening import load
engine = load(sys.argv[1], threads=2)
def answer():
    return engine.generate_ids([[3, 7, 1]], max_new_tokens=4)[0].token_ids
wanted = answer()
def fork(child):
    number = os.fork()
    if number == 0:
        child()
        sys.exit(7)
    code = os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])
    assert code == 7, code
    assert answer() == wanted
"""
CHILDREN = {
    "leaves": "fork(lambda: None)",
    "closes": "fork(engine.close)",
    "uses it": "def child(): assert answer() == wanted\nfork(child)",
    "uses and closes it": "def child():\n    assert answer() == wanted\n    engine.close()\nfork(child)",
    "collects it": "def child():\n    global engine\n    del engine\n    gc.collect()\nfork(child)",
    "has children": "def child():\n    assert answer() == wanted\n    fork(lambda: answer())\nfork(child)",
    "has children that leave": "fork(lambda: fork(lambda: None))",
    "raises": (
        "import contextlib\ndef child():\n    with contextlib.suppress(ZeroDivisionError), engine:\n        1 / 0\n"
        "fork(child)"
    ),
    "continues a stream": (
        "from jisu.runtimes.generation.text_run import TextRun\n"
        "def run(): return engine.generator.begin([[3, 7, 1]], __import__('jisu').SamplingOptions(max_new_tokens=4))\n"
        "half = run()\nsteps = iter(half)\nnext(steps)\n"
        "def child():\n    for _ in steps: pass\n    assert half.token_ids(0) == wanted\nfork(child)"
    ),
    "is one of a pool": (
        "import multiprocessing\n"
        "with multiprocessing.get_context('fork').Pool(2) as pool:\n"
        "    assert pool.map(lambda_, range(3)) == [wanted] * 3\n"
    ),
    "is forked by a thread": (
        # Python itself does not end a process whose sys.exit is called in the thread that was forked.
        "def child():\n    assert answer() == wanted\n    engine.close()\n    os._exit(7)\n"
        "thread = threading.Thread(target=fork, args=(child,))\nthread.start()\nthread.join()"
    ),
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("forks") / "artifact"
    write_artifact(place, "ort-cpu")
    return place


@pytest.mark.parametrize("what", CHILDREN)
def test_a_child_ends_and_may_use_the_model(folder: Path, what: str) -> None:
    code = BEGIN + "def lambda_(_): return answer()\n" + CHILDREN[what]
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(code), str(folder)], capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr


def test_what_is_opened_again_is_closed_for_good() -> None:
    class Thing:
        pass

    reopened = Reopened(Thing, lambda: RuntimeError("closed"))
    first = reopened.get()
    assert reopened.get() is first
    reopened.leave()  # as in a child
    assert reopened.get() is not first
    reopened.close()
    reopened.close()
    reopened.leave()
    with pytest.raises(RuntimeError, match="closed"):
        reopened.get()


def test_a_device_does_not_follow_into_a_child() -> None:
    class OnDevice:
        name = "ort-cuda"

        def forward(self) -> int:
            return 1

        def close(self) -> None:
            os._exit(3)

    backend = OnDevice()
    forbid_to_children(backend)
    number = os.fork()
    if number == 0:
        code = 5
        try:
            backend.forward()
        except InputError as error:
            code = 0 if "cannot be used in a forked process" in str(error) else 4
        backend.close()
        os._exit(code)
    assert os.waitstatus_to_exitcode(os.waitpid(number, 0)[1]) == 0
    assert backend.forward() == 1


def test_functions_run_in_children_once(tmp_path: Path) -> None:
    code = (
        "import os, sys\nfrom runtimes.backends.forks import run_in_children\n"
        "def note(): os.write(1, b'x')\n"
        "run_in_children(note)\nrun_in_children(note)\n"
        "if os.fork() == 0: os._exit(0)\nos.wait()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=300)
    assert (done.stdout, done.returncode) == ("x", 0), done.stderr
