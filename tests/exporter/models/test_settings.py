from __future__ import annotations

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.models.settings import ModelSettings


def test_all_problems_are_named_at_once():
    with pytest.raises(InputError) as error:
        ModelSettings(network="rnn", vocab_size=0, dropout=1.0)
    assert all(part in str(error.value) for part in ("network 'rnn'", "vocab_size 0", "dropout 1.0", "lstm"))


@pytest.mark.parametrize(
    "changes", [{"network": "transformer", "hidden_size": 30, "heads": 4}, {"network": "ngram", "context": 1}]
)
def test_sizes_that_do_not_go_together_are_refused(changes):
    with pytest.raises(InputError, match="cannot be built"):
        ModelSettings(vocab_size=10, **changes)


def test_settings_come_back_from_their_dictionary():
    settings = ModelSettings(network="gru", vocab_size=12, hidden_size=64)
    assert ModelSettings.from_dict(settings.to_dict()) == settings
    with pytest.raises(InputError, match="colour"):
        ModelSettings.from_dict({**settings.to_dict(), "colour": 1})
