from __future__ import annotations

from jisu.exporter.quantization.matrices import matrices_of


def test_a_model_lists_its_linear_layers_and_tables(tiny_source):
    from jisu.exporter.sources import load_source

    actual = matrices_of(load_source(tiny_source).module)
    embeddings = [item.name for item in actual if item.embedding]
    assert embeddings == ["model.embed_tokens", "lm_head"]
    assert len(actual) == 3 * 7 + 2
    query = next(item for item in actual if item.name == "model.layers.0.self_attn.q_proj")
    assert (query.rows, query.features, query.elements) == (64, 64, 4096)
