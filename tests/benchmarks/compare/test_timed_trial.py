from __future__ import annotations

import pytest

from jisu.benchmarks.compare.figures import trial_speeds, workload_figures
from jisu.benchmarks.compare.rounds import Outcome
from jisu.benchmarks.compare.timed_process import ContestantError, TimedProcess
from jisu.benchmarks.compare.timed_trial import time_trial
from jisu.benchmarks.compare.workloads import Workload
from tests.benchmarks.fake_worker import fake_contestant

SOUND = Workload(name="recordings", prompt_tokens=0, new_tokens=0, hears="one by one")
IMAGE = Workload(name="image", prompt_tokens=4, new_tokens=6, images=2)


def timed(workload, feed, **lines):
    contestant = fake_contestant("one", **lines)
    with TimedProcess(contestant.command, time_limit=60) as process:
        answer = time_trial(process, feed, workload)
    return contestant, answer


def test_recordings_are_timed_by_the_seconds_that_they_last():
    contestant, answer = timed(SOUND, ["a", "b"])
    assert (answer["step_seconds"], answer["sound_seconds"]) == ([0.5, 0.5], [2.0, 2.0])
    assert trial_speeds([answer], SOUND) == {"sound_per_s": [4.0]}
    outcome = Outcome(contestant=contestant, trials={"recordings": [answer]})
    figures = workload_figures(outcome, SOUND, weights=None, bandwidth=None)
    assert figures["real_time_factor"]["median"] == 0.25
    assert figures["latency_s"]["p50"]["median"] == 0.5


def test_images_are_read_before_the_first_token():
    contestant, answer = timed(IMAGE, ([1, 1, 2], ["a", "b"]))
    assert (answer["encode_seconds"], len(answer["step_seconds"])) == (0.1, 6)
    assert trial_speeds([answer], IMAGE)["images_per_s"] == [pytest.approx(20.0)]
    assert "prefill_tokens_per_s" not in trial_speeds([answer], IMAGE)
    outcome = Outcome(contestant=contestant, trials={"image": [answer]})
    figures = workload_figures(outcome, IMAGE, weights=1e6, bandwidth=1e9)
    assert figures["time_to_first_token_s"]["median"] == 0.5
    assert "bytes_per_token" not in figures


def test_sound_is_heard_before_the_first_token():
    workload = Workload(name="recording", prompt_tokens=4, new_tokens=6, recordings=2)
    answer = {"step_seconds": [0.5] * 6, "encode_seconds": 0.25, "sound_seconds": [2.0, 3.0]}
    assert trial_speeds([answer], workload) == {"heard_per_s": [20.0], "decode_tokens_per_s": [2.0]}


@pytest.mark.parametrize(
    ("hears", "said"),
    [
        ("seconds = seconds[:1]", "1 recordings instead of 2"),
        ("seconds = [0.0] * 2", "a step took no time"),
        ("raise ValueError('the recording cannot be read')", "cannot be read"),
    ],
)
def test_a_contestant_that_hears_less_is_out(hears, said):
    with pytest.raises(ContestantError, match=said):
        timed(SOUND, ["a", "b"], hears=hears)


def test_what_a_contestant_cannot_do_is_no_failure():
    _, answer = timed(SOUND, ["a"], hears="raise UnsupportedError('no ears')")
    assert answer["unsupported"] == "no ears"
