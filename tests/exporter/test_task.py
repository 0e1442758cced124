from __future__ import annotations

import pytest

from exporter.errors import InputError
from exporter.pipeline import export


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"max_kl": 0.01}, "a mix of formats"),
        ({"precision": "int8", "max_perplexity_ratio": 1.1}, "--max-ppl-ratio"),
    ],
)
def test_a_classifier_has_no_next_tokens(options, received, tiny_classifier_source, tmp_path):
    with pytest.raises(InputError, match=f"judged by its labels.*Received: {received}"):
        export(tiny_classifier_source, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())
