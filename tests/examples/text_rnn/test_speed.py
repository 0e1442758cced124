from __future__ import annotations

import torch

from examples.text_rnn.speed import Speed, loop, loop_without_state, speed_table
from jisu.exporter.models.language_model import LanguageModel
from jisu.exporter.models.settings import NETWORKS
from tests.examples.text_rnn.small_data import sizes


def test_both_loops_find_the_same_words():
    for network in NETWORKS:
        torch.manual_seed(5)
        model = LanguageModel(sizes(network, 30)).eval()
        assert loop(model, [2, 7], 12) == loop_without_state(model, [2, 7], 12)


def test_table_compares_with_the_first():
    speeds = [Speed(name=name, median=median, low=1.0, high=300.0) for name, median in (("a", 100.0), ("b", 250.0))]
    lines = speed_table(speeds, "words").splitlines()
    assert lines[0].endswith("1.00x") and lines[1].endswith("2.50x")
