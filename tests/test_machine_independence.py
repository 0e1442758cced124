"""The same export gives the same weights on every machine: what makes an artifact asks nothing of the machine.

Read from the source, because no test runs on two machines at once. Floating-point sums are not covered: their last bits
are the CPU's, and weights that calibration rounds can follow them.
"""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
# Names, attributes and modules that tell something about a machine: its cores, clock, memory, disk, CPU or GPU.
ASKS = re.compile(
    r"cpu_count|sched_getaffinity|get_num_threads|perf_counter|monotonic|process_time|virtual_memory|memory_info"
    r"|disk_usage|getpagesize|sysconf|uname|getloadavg|machine|platform|gethostname|getuser|cpuinfo|is_available"
    r"|get_available_providers|device_count|get_device_properties"
)
# Who may ask, and why nothing of the answer is in an artifact.
MAY_ASK = {
    "calibration/weights/row_pieces.py": "threads, of which each rounds rows that no other reads",
    "exporter/estimates/advice.py": "speed on this machine, in the timings beside the artifact",
    "exporter/estimates/cost_estimate.py": "the time that a dry run foresees",
    "exporter/estimates/disk_space.py": "a disk that is too small is refused",
    "exporter/gate/open_candidate.py": "what cannot be verified here is refused",
    "exporter/jobs/free_memory.py": "memory that the allocator keeps is given back; nothing is computed from it",
    "exporter/jobs/peak_memory.py": "memory of each step, in the timings",
    "exporter/jobs/stages.py": "seconds of each step, in the timings",
    "exporter/sources/compute_device.py": "a device that is not there is refused; the manifest names it",
    "exporter/sources/paged_weights.py": "where weights lie while they are read: a file or memory",
    "exporter/passes/run_recipe.py": "seconds of each pass, in the timings",
}
# Commands print; the opinions and the diagnosis judge an artifact that is there.
NOT_MAKING = ("exporter/commands/", "exporter/opinions/", "exporter/diagnosis/", "exporter/reports/")


def questions(path: Path) -> list[str]:
    """What a module asks of the machine, ``line: name``."""
    actual = []
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        names: list[str] = []
        if isinstance(node, ast.Attribute):
            names = [node.attr]
        elif isinstance(node, ast.ImportFrom):
            names = [*(node.module or "").split("."), *(alias.name for alias in node.names)]
        elif isinstance(node, ast.Import):
            names = [part for alias in node.names for part in alias.name.split(".")]
        line = getattr(node, "lineno", 0)
        actual += [f"{line}: {name}" for name in names if ASKS.fullmatch(name)]
    return sorted(actual)


def asking() -> dict[str, list[str]]:
    paths = [path for package in ("calibration", "exporter") for path in (ROOT / package).rglob("*.py")]
    named = {path.relative_to(ROOT).as_posix(): questions(path) for path in paths}
    return {name: requests for name, requests in named.items() if requests and not name.startswith(NOT_MAKING)}


def test_only_those_ask_whose_answers_are_not_in_an_artifact() -> None:
    assert set(asking()) == set(MAY_ASK)


@pytest.mark.parametrize(
    "line",
    [
        "import os\nthreads = os.cpu_count()",
        "import time\nbegun = time.perf_counter()",
        "from os import sched_getaffinity",
        "import torch\nwidth = torch.get_num_threads()",
        "from jisu.runtimes.machine.int8_sums import int8_sums_overflow",
        "import platform\nkind = platform.machine()",
        "import torch\nfast = torch.cuda.is_available()",
    ],
)
def test_a_planted_question_is_found(tmp_path: Path, line: str) -> None:
    (tmp_path / "pass.py").write_text(line)
    assert questions(tmp_path / "pass.py")


def test_a_name_that_asks_nothing_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "pass.py").write_text("import shutil\nmachine = 1\nshutil.rmtree('x')\nprint('cpu_count')")
    assert questions(tmp_path / "pass.py") == []
