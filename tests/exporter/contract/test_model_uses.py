"""Every kind of model says what it is used with."""

from __future__ import annotations

from dataclasses import replace

import pytest

from jisu.exporter.contract.artifact import MODEL_KINDS
from jisu.exporter.contract.model_uses import MODEL_USES, does_not_generate, not_of_kind


def test_every_kind_has_a_use():
    assert set(MODEL_USES) == set(MODEL_KINDS)


@pytest.mark.parametrize("kind", MODEL_KINDS)
def test_the_errors_name_what_to_use(tiny_classifier, kind):
    artifact = replace(tiny_classifier, manifest=replace(tiny_classifier.manifest, model_kind=kind))
    for error in (does_not_generate(artifact), not_of_kind(artifact, "text-classification")):
        assert f"an artifact for {kind}" in str(error) and f"jisu {MODEL_USES[kind].command}" in str(error)
