from __future__ import annotations

import json

from jisu import main
from tests.ray_cluster import killing_a_worker


def test_a_matrix_on_a_cluster_that_loses_a_worker_has_the_same_report(tiny, tmp_path):
    build = tmp_path / "build" / "source"
    build.mkdir(parents=True)
    for name in ("fp32", "int8"):
        (build / name).symlink_to(getattr(tiny, name))
    path = tmp_path / "matrix.toml"
    path.write_text(f'models = ["{tiny.source}"]\nprecisions = ["fp32", "int8"]\nbuild = "{tmp_path / "build"}"\n')
    words = ["compare", "--matrix", path, "--workloads", "short-chat", "--trials", "2", "--threads", "1", "--quiet"]
    assert main([str(word) for word in [*words, "--out", tmp_path / "here"]]) == 0
    with killing_a_worker("int8", after=4.0) as killed:
        assert main([str(word) for word in [*words, "--out", tmp_path / "there", "--ray"]]) == 0
    assert len(killed) == 1
    here, there = (json.loads((tmp_path / name / "report.json").read_text()) for name in ("here", "there"))
    assert [row["name"] for row in there["rows"]] == ["fp32 (ort-cpu)", "int8 (ort-cpu)"]
    assert [row["failure"] for row in there["rows"]] == [None, None]
    assert [row["quality"] for row in there["rows"]] == [row["quality"] for row in here["rows"]]
    assert [row["size_bytes"] for row in there["rows"]] == [row["size_bytes"] for row in here["rows"]]
    assert set(there) == set(here)
    for row in there["rows"]:
        assert row["measured"]["short-chat"]["decode_tokens_per_s"]["trials"] == 2
        assert row["machine"]["processor"] == there["machine"]["processor"]
    files = [sorted(path.name for path in (tmp_path / name).iterdir()) for name in ("here", "there")]
    assert files[0] == files[1]
