from __future__ import annotations

import errno
import hashlib
import random
import shutil
import time
from pathlib import Path

import pytest

from jisu.benchmarks.robustness import full_disk
from jisu.benchmarks.robustness.full_disk import filled, small_disk
from jisu.benchmarks.robustness.kills import Kills
from jisu.benchmarks.robustness.tally import Tally
from jisu.exporter.contract.errors import InputError

SIZE = 16 << 20


@pytest.fixture
def disk(tmp_path):
    folder = tmp_path / "disk"
    folder.mkdir()
    try:
        with small_disk(folder, size=SIZE):
            yield folder
    except InputError as error:
        pytest.skip(f"this user may not mount a file system in memory: {error}")


def test_a_filled_disk_takes_no_more_and_is_free_again(disk):
    place = disk / "job"
    place.mkdir()
    with filled(place, random.Random(0)):
        with pytest.raises(OSError, match="space") as caught:
            (place / "more").write_bytes(bytes(full_disk._LEFT))
        assert caught.value.errno == errno.ENOSPC
    (place / "more").write_bytes(bytes(SIZE // 2))
    assert shutil.disk_usage(disk).total == SIZE


def test_a_job_that_does_not_expect_a_full_disk_is_found(disk):
    def write(out: Path) -> None:
        for number in range(40):
            with (out.parent / "begun").open("ab") as stream:
                stream.write(bytes([number]) * (64 << 10))
                stream.flush()
            time.sleep(0.01)
        (out.parent / "begun").replace(out)

    tally = Tally()
    trial = Kills(
        name="job",
        job=write,
        digest=lambda out: hashlib.sha256(out.read_bytes()).hexdigest(),
        place=disk / "job",
        seconds=30,
        disturbs=filled,
    )
    for number in range(4):
        trial.run(number, tally)
    assert tally.counts["job"]["traceback"]


def test_no_mount_is_an_error_that_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(InputError, match="Run it as root"), small_disk(tmp_path, size=SIZE):
        pass
