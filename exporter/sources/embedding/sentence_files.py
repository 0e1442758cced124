"""Writes what sentence-transformers reads beside a graph, so that its own ONNX backend opens an artifact.

That package takes the states of the tokens from the graph and does the rest itself, with the weights written here.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import EmbeddingFacts, ModelFacts
from jisu.exporter.sources.embedding.description import MODULES, SETTINGS, PoolingMode

if TYPE_CHECKING:
    from torch import nn

    from jisu.exporter.sources.embedding.embedder import SentenceEmbedder

_PACKAGE = "sentence_transformers.models"
# Entries of a configuration that tell of the machine it was made on.
_PRIVATE = ("_name_or_path", "_commit_hash", "name_or_path")


def write_sentence_files(folder: Path, embedder: SentenceEmbedder, facts: ModelFacts) -> None:
    """Write configuration, modules, lengths and prompts; the same model gives the same bytes."""
    embedding = facts.embedding
    assert embedding is not None, "an embedding model says what its vectors are"
    config = {key: value for key, value in embedder.config.to_dict().items() if key not in _PRIVATE}
    _write(folder / "config.json", {**config, "architectures": [facts.architecture]})
    _write(folder / "sentence_bert_config.json", {"max_seq_length": facts.max_positions, "do_lower_case": False})
    _write(folder / SETTINGS, _settings(embedding))
    places = [("Transformer", "")]
    hidden = embedder.config.get_text_config().hidden_size
    _write(folder / "1_Pooling" / "config.json", _pooling(embedder, hidden))
    places.append(("Pooling", "1_Pooling"))
    for step in embedder.steps:
        described = _describe(step)
        if described is None:
            continue
        kind, settings = described
        place = f"{len(places)}_{kind}"
        places.append((kind, place))
        _write(folder / place / "config.json", settings)
        _write_weights(folder / place, step)
    lines = [
        {"idx": index, "name": str(index), "path": path, "type": f"{_PACKAGE}.{kind}"}
        for index, (kind, path) in enumerate(places)
    ]
    _write(folder / MODULES, lines)


def _settings(embedding: EmbeddingFacts) -> dict[str, Any]:
    return {
        "prompts": embedding.prompts,
        "default_prompt_name": embedding.default_prompt,
        "similarity_fn_name": embedding.similarity,
    }


def _pooling(embedder: SentenceEmbedder, hidden: int) -> dict[str, Any]:
    """In the keys of older versions, which newer ones read too, where these can say in which order vectors stand."""
    # In the order in which older versions put the vectors behind each other.
    old: dict[PoolingMode, str] = {
        "cls": "cls_token",
        "max": "max_tokens",
        "mean": "mean_tokens",
        "mean_sqrt_len_tokens": "mean_sqrt_len_tokens",
        "weightedmean": "weightedmean_tokens",
        "lasttoken": "lasttoken",
    }
    modes: dict[str, Any] = {f"pooling_mode_{key}": mode in embedder.pooling for mode, key in old.items()}
    if embedder.pooling != tuple(mode for mode in old if mode in embedder.pooling):
        modes = {"pooling_mode": list(embedder.pooling)}
    return {"word_embedding_dimension": hidden, **modes, "include_prompt": embedder.pools_prompt}


def _describe(step: nn.Module) -> tuple[str, dict[str, Any]] | None:
    """(name of the module there, its settings); None for what does nothing when a model is used."""
    from jisu.exporter.sources.embedding.embedder import Dense, Normalize, VectorNorm

    if isinstance(step, Normalize):
        return "Normalize", {}
    if isinstance(step, VectorNorm):
        return "LayerNorm", {"dimension": step.norm.normalized_shape[0]}
    if isinstance(step, Dense):
        kind = type(step.activation)
        settings = {
            "in_features": step.linear.in_features,
            "out_features": step.linear.out_features,
            "bias": step.linear.bias is not None,
            "activation_function": f"{kind.__module__}.{kind.__name__}",
        }
        return "Dense", {**settings, **({"use_residual": True} if step.adds else {})}
    return None


def _write_weights(folder: Path, step: nn.Module) -> None:
    weights = {name: tensor.contiguous() for name, tensor in step.state_dict().items()}
    if weights:
        from safetensors.torch import save_file

        save_file(weights, str(folder / "model.safetensors"), metadata={"format": "pt"})


def _write(path: Path, data: Any) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(json.dumps(data, indent=2, ensure_ascii=False, sort_keys=True) + "\n", encoding="utf-8")
