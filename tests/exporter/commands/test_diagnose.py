from __future__ import annotations

import jisu


def test_a_wrong_compute_capability_is_a_usage_error(capsys):
    assert jisu.main(["diagnose", "nothing", "--backend", "tensorrt-rtx", "--compute-capability", "new"]) == 2
    assert "'new' is no compute capability; write it as 8.9" in capsys.readouterr().err
