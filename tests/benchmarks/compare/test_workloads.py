from __future__ import annotations

import pytest

from jisu.benchmarks.compare.workloads import WORKLOADS as SUITES
from jisu.benchmarks.compare.workloads import prompts_of, workloads_named
from jisu.exporter.contract.errors import InputError

# Of those that are given texts.
WORKLOADS = {name: item for suite in SUITES.values() for name, item in suite.items() if not item.hears}
TEXT = "".join(chr(97 + i * i % 26) for i in range(5000))


def encode(text):
    return [ord(letter) for letter in text]


@pytest.mark.parametrize("name", WORKLOADS)
@pytest.mark.parametrize("encoder", [encode, None])
def test_prompts_have_the_workloads_shape_and_differ_from_trial_to_trial(name, encoder):
    workload = WORKLOADS[name]
    actual = [prompts_of(workload, trial=trial, vocab_size=300, encode=encoder, text=TEXT) for trial in (0, 0, 1)]
    assert [len(row) for row in actual[0]] == [workload.prompt_tokens] * workload.batch
    assert actual[0] == actual[1] != actual[2]
    assert all(0 <= token < 300 for row in actual[0] for token in row)


def test_a_grounded_prompt_ends_with_the_wish_for_its_own_words():
    ids = prompts_of(WORKLOADS["input-grounded"], trial=0, vocab_size=300, encode=encode, text=TEXT)[0]
    assert "".join(map(chr, ids)).endswith("Repeat the text above, word for word.\n\n")


def test_a_grounded_prompt_of_random_ids_says_everything_twice():
    ids = prompts_of(WORKLOADS["input-grounded"], trial=0, vocab_size=300, encode=None, text="")[0]
    assert ids[:128] == ids[128:]


def test_an_unknown_workload_is_named_with_those_there_are():
    with pytest.raises(InputError, match="no such workload.*long-chat.*short-chat"):
        workloads_named(["short-chat", "long-chat"])
    assert [item.name for item in workloads_named(["batch-4", "short-chat"])] == ["short-chat", "batch-4"]
