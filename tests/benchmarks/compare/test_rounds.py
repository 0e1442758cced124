from __future__ import annotations

import json

import pytest

from jisu.benchmarks.compare.journal import Journal
from jisu.benchmarks.compare.rounds import is_timed, measure_rounds, open_processes, restored_outcomes
from jisu.benchmarks.compare.workloads import Workload
from tests.benchmarks.fake_worker import fake_contestant

SHORT = Workload(name="short", prompt_tokens=4, new_tokens=6)
PAIR = Workload(name="pair", prompt_tokens=4, new_tokens=6, batch=2)


CALLS = Workload(name="calls", prompt_tokens=4, new_tokens=0, batch=2, calls=5)


def prompts(workload, trial):
    return [[trial + 1] * workload.prompt_tokens] * workload.batch


def measure(contestants, folder, *, workloads=(SHORT,), trials=3, time_limit=60.0):
    journal = Journal(folder, [item.name for item in contestants])
    outcomes = restored_outcomes(contestants, journal.records)
    said = []
    with open_processes(
        outcomes,
        needed=lambda outcome: not is_timed(outcome, workloads, trials),
        time_limit=time_limit,
        journal=journal,
        say=said.append,
    ) as processes:
        measure_rounds(outcomes, processes, workloads, prompts, trials=trials, journal=journal, say=said.append)
    return outcomes, said


def noting(path, name):
    """A line that notes who is asked for what."""
    return f"open({str(path)!r}, 'a').write(json.dumps([{name!r}, prompts[0][0], new_tokens]) + chr(10))"


def test_rounds_go_by_turns_after_a_short_warm_up(tmp_path):
    log = tmp_path / "log"
    outcomes, _ = measure([fake_contestant(name, body=noting(log, name)) for name in "ab"], tmp_path, trials=2)
    order = [tuple(json.loads(line)) for line in log.read_text().splitlines()]
    assert order == [("a", 0, 4), ("b", 0, 4), ("a", 1, 6), ("b", 1, 6), ("a", 2, 6), ("b", 2, 6)]
    assert [len(outcome.trials["short"]) for outcome in outcomes.values()] == [2, 2]
    assert outcomes["a"].trials["short"][0]["step_seconds"] == pytest.approx([0.5] + [0.01] * 5)


@pytest.mark.parametrize(
    ("faults", "said"),
    [
        ({"opening": "raise ValueError('damaged')"}, "damaged"),
        (
            {"body": "if len(requests) > 2: os.kill(os.getpid(), signal.SIGKILL)"},
            "short: the process was ended by signal 9",
        ),
        ({"body": "if len(requests) > 2: time.sleep(60)"}, "no answer within 8 s"),
        ({"body": "if len(requests) > 2: raise ValueError('the largest logit is nan')"}, "nan"),
        ({"body": "if new_tokens > 4: tokens = [[1]]"}, "1] tokens in 6 steps instead of 6"),
        ({"factor": "0"}, "a step took no time"),
        ({"factor": "float('nan')"}, "a step took no time"),
    ],
)
def test_a_contestant_that_fails_is_taken_out_and_the_others_go_on(tmp_path, faults, said):
    # Only who hangs is waited for; a busy machine takes seconds to start the others.
    time_limit = 8.0 if "sleep" in str(faults) else 60.0
    outcomes, _ = measure([fake_contestant("bad", **faults), fake_contestant("good")], tmp_path, time_limit=time_limit)
    assert said in outcomes["bad"].failure
    assert not outcomes["bad"].is_measured
    assert outcomes["good"].failure is None
    assert len(outcomes["good"].trials["short"]) == 3


@pytest.mark.parametrize(
    ("labels", "said"),
    [
        ("seconds = seconds[:-1] if calls > 2 else seconds", "4 calls instead of 5"),
        ("if calls > 2: raise ValueError('logits that are not all finite')", "not all finite"),
    ],
)
def test_a_classifier_that_does_less_or_gives_no_numbers_is_taken_out(tmp_path, labels, said):
    contestants = [fake_contestant("bad", labels=labels), fake_contestant("good")]
    outcomes, _ = measure(contestants, tmp_path, workloads=(CALLS,), trials=2)
    assert said in outcomes["bad"].failure
    assert [answer["step_seconds"] for answer in outcomes["good"].trials["calls"]] == [[0.01] * 5] * 2


def test_what_a_contestant_cannot_do_is_left_out_for_it_alone(tmp_path):
    one = fake_contestant("one", body="if len(prompts) > 1: raise UnsupportedError('one at a time')")
    outcomes, _ = measure([one, fake_contestant("two")], tmp_path, workloads=(PAIR, SHORT))
    assert outcomes["one"].unsupported == {"pair": "one at a time"}
    assert {name: len(trials) for name, trials in outcomes["one"].trials.items()} == {"short": 3}
    assert len(outcomes["two"].trials["pair"]) == 3


def test_an_interrupted_run_goes_on_where_it_was(tmp_path):
    log = tmp_path / "log"
    stop = tmp_path / "stop"
    wait = f"{noting(log, 'a')}; os.path.exists({str(stop)!r}) and new_tokens > 4 and prompts[0][0] == 2 and os.abort()"
    contestants = [fake_contestant("a", body=wait)]
    stop.touch()
    outcomes, _ = measure(contestants, tmp_path)
    assert outcomes["a"].failure is not None
    # The failure is in the journal, too, and what failed is tried again.
    stop.unlink()
    log.unlink()
    outcomes, said = measure(contestants, tmp_path)
    assert said == ["loading a", "short: round 2 of 3", "short: round 3 of 3"]
    requests = [tuple(json.loads(line)[1:]) for line in log.read_text().splitlines()]
    assert requests == [(0, 4), (2, 6), (3, 6)]
    assert len(outcomes["a"].trials["short"]) == 3
    log.unlink()
    outcomes, said = measure(contestants, tmp_path)
    assert not log.exists()
    assert said == []
    assert len(outcomes["a"].trials["short"]) == 3
