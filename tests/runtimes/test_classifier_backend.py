"""What both backends of a classifier have to do alike, on one small artifact."""

from __future__ import annotations

import numpy as np
import pytest

from exporter.errors import InputError
from runtimes.registry import open_backend, open_classifier

ROWS = [[5, 6, 7], [9] * 20, [11], [12, 300]]


@pytest.fixture(scope="module", params=["ort-cpu", "torch"])
def backend(request, tiny_classifier):
    opened = open_classifier(request.param, tiny_classifier)
    yield opened
    opened.close()


def test_a_row_never_depends_on_the_others(backend):
    together = backend.logits(ROWS)
    assert together.dtype == np.float32
    assert together.shape == (4, 3)
    alone = np.concatenate([backend.logits([row]) for row in ROWS])
    np.testing.assert_allclose(together, alone, atol=1e-5)


def test_both_give_the_same(tiny_classifier):
    found = [open_classifier(name, tiny_classifier).logits(ROWS) for name in ("ort-cpu", "torch")]
    np.testing.assert_allclose(found[0], found[1], atol=1e-5)


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ([], "nothing to classify. Received: no row"),
        ([[1], []], "nothing to classify. Received: a row without tokens"),
        ([[1] * 513], "too long for the model. Received: 513 tokens. Allowed: at most 512"),
        ([[384]], "not in the vocabulary. Received: 384"),
        ([[-1]], "not in the vocabulary. Received: -1"),
    ],
)
def test_wrong_rows_are_refused(backend, rows, message):
    with pytest.raises(InputError, match=message):
        backend.logits(rows)


def test_a_closed_backend_says_so(tiny_classifier):
    for name in ("ort-cpu", "torch"):
        opened = open_classifier(name, tiny_classifier)
        opened.close()
        opened.close()
        with pytest.raises(InputError, match="is closed"):
            opened.logits(ROWS)


def test_an_artifact_of_another_task_is_refused(tiny_classifier):
    with pytest.raises(InputError, match="gives labels to texts and does not continue them"):
        open_backend("ort-cpu", tiny_classifier)
