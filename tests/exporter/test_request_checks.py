from __future__ import annotations

from types import SimpleNamespace

import pytest

from jisu.exporter.contract.errors import InputError
from jisu.exporter.pipeline import export
from jisu.exporter.precision.precision import PRECISIONS
from jisu.exporter.request_checks import check_model_kind


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"max_kl": 0.01}, "mixed precision"),
        ({"precision": "int8", "max_perplexity_ratio": 1.1}, "--max-ppl-ratio"),
    ],
)
def test_a_classifier_has_no_next_tokens(options, received, tiny_classifier_source, tmp_path):
    with pytest.raises(InputError, match=f"needs a model that generates text.*Received: {received}"):
        export(tiny_classifier_source, tmp_path / "out", **options)
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize(("target", "precision"), [("tensorrt", "int4"), ("ort-cuda", "int4"), ("ort-cpu", "w8a8")])
def test_an_encoder_is_not_for_every_precision(target, precision):
    source = SimpleNamespace(model_kind="text2text-generation", model=SimpleNamespace(architecture="T5"))
    request = SimpleNamespace(target=target, precision_spec=PRECISIONS[precision], min_cosine=None, min_recall=None)
    with pytest.raises(InputError, match=f"T5 has an encoder, .*--target {target}"):
        check_model_kind(request, source)


@pytest.mark.parametrize(
    ("options", "received"),
    [
        ({"max_kl": 0.01, "precision": "int8"}, "--max-kl"),
        ({"precision": "int8", "min_top1": 0.9}, "--min-top1"),
        ({"keep_quantization": True}, "--keep-quantization"),
    ],
)
def test_an_embedding_model_is_judged_by_its_vectors(options, received, tiny_embedder_source, tmp_path):
    with pytest.raises(InputError, match=f"Received: {received}.*--min-cosine and --min-recall"):
        export(tiny_embedder_source, tmp_path / "out", **options)


def test_limits_of_vectors_are_for_embedding_models(tiny_classifier_source, tmp_path):
    with pytest.raises(InputError, match="needs an embedding model.*Received: --min-cosine"):
        export(tiny_classifier_source, tmp_path / "out", precision="int8", min_cosine=0.9)
