from __future__ import annotations

import subprocess
import sys
from argparse import Namespace

from jisu.benchmarks.peers import auto_round_weights
from jisu.benchmarks.peers.auto_round_weights import stored_bytes


def test_four_bits_have_a_scale_and_a_zero_point_and_eight_bits_a_scale():
    options = Namespace(group_size=32, eight=["down_proj"])
    assert stored_bytes("layers.0.q_proj.weight", 64, options) == 32 + 2 * 2.5
    assert stored_bytes("layers.0.down_proj.weight", 64, options) == 64 + 2 * 2


def test_it_imports_nothing_of_the_project_whose_environment_is_another_one():
    program = f"import runpy, sys; runpy.run_path({auto_round_weights.__file__!r}); print('jisu' in sys.modules)"
    actual = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd="/")
    assert actual.stdout.strip() == "False"
