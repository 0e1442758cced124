from __future__ import annotations

import re

from jisu.benchmarks.studies import rounding_speed


def test_every_format_has_a_speed(capsys):
    rounding_speed.main(["--shape", "256x128", "--rounds", "2"])
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(":")[0] for line in lines] == list(rounding_speed.FORMATS)
    assert all(float(number) > 0 for line in lines for number in re.findall(r"([\d.]+) GB/s", line))
