from __future__ import annotations

import pytest
from torch import nn

from jisu.exporter.sources.evaluation_mode import evaluation_mode


def test_every_part_gets_its_own_mode_back_also_after_an_error():
    module = nn.Sequential(nn.Dropout(), nn.Linear(2, 2)).train()
    module[1].eval()
    with pytest.raises(RuntimeError), evaluation_mode(module):
        assert not any(child.training for child in module.modules())
        raise RuntimeError
    assert [child.training for child in module.modules()] == [True, True, False]
