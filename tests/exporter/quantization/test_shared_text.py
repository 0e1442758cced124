from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.quantization.shared_text import refuse_shared_text, refuse_shared_windows, shared_passages

STORY = "".join(f"On day {day} the ship sailed {day * 7} miles and met {day % 5} whales. " for day in range(300))


def test_a_part_of_the_evaluation_text_is_found():
    with pytest.raises(InputError, match="passages of the evaluation text"):
        refuse_shared_text(STORY[2000:4000], STORY, origin="part")


def test_other_texts_share_nothing():
    assert shared_passages("Something else. " * 200, STORY)[0] == []
    refuse_shared_text("Something else. " * 200, STORY, origin="other")


def test_one_long_window_or_a_quarter_of_short_ones_is_refused():
    refuse_shared_windows([STORY[:50], "@1", "@2", "@3", "@4"], STORY, origin="few")
    with pytest.raises(InputError, match="1 of 2 windows"):
        refuse_shared_windows([STORY[:160], "nothing of it"], STORY, origin="long")
    with pytest.raises(InputError, match="2 of 4 windows"):
        refuse_shared_windows([STORY[:50], STORY[50:90], "@1", "@2"], STORY, origin="many")
