"""Embedding models that are a table of vectors: the mean of the vectors of a text's tokens, without an encoder.

What sentence-transformers calls ``StaticEmbedding``: a tokenizer's file and one tensor, of which no token is special.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from jisu.exporter.contract.artifact import EMBEDDING, EmbeddingFacts, ModelFacts
from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.embedding.description import SETTINGS, EmbeddingStep, stated_prompts, stated_similarity
from jisu.exporter.sources.embedding.embedder import Embeddings, build_steps, load_tensors
from jisu.exporter.sources.embedding.pooling import pool
from jisu.exporter.sources.jsonfile import read_json
from jisu.exporter.sources.provenance import record_origin
from jisu.exporter.sources.source import Source

# Names of the one tensor; the second is what model2vec writes.
_TABLES = ("embedding.weight", "embeddings")
_TOKENIZER = "tokenizer.json"


class StaticEmbedder(nn.Module):
    """``forward(input_ids, attention_mask) -> Embeddings`` of a table float32 [V, D]."""

    pools_prompt, layers = True, None

    def __init__(self, table: Tensor, steps: list[nn.Module]) -> None:
        super().__init__()
        self.embedding = nn.Embedding(table.shape[0], table.shape[1], _weight=table)
        self.steps = nn.Sequential(*steps)

    def forward(self, input_ids: Tensor, attention_mask: Tensor) -> Embeddings:
        states: Tensor = self.embedding(input_ids)
        return Embeddings(states, self.steps(pool(states, attention_mask, "mean")))


def load_static(
    folder: Path, table: EmbeddingStep, steps: list[EmbeddingStep], *, origin: Mapping[str, Any], allow_pickle: bool
) -> Source:
    """The source of a folder of sentence-transformers whose first module is such a table.

    Raises:
        InputError: its tokenizer or its one tensor is missing, broken or of another kind.
    """
    tensors = load_tensors(table, allow_pickle=allow_pickle)
    name = next((one for one in _TABLES if one in tensors), None)
    if name is None or len(tensors) != 1 or tensors[name].dim() != 2 or not tensors[name].is_floating_point():
        shapes = ", ".join(f"{key} {value.dtype} {list(value.shape)}" for key, value in tensors.items())
        raise InputError(
            f"{table.folder} is no table of vectors",
            received=shapes or "no tensor",
            allowed=f"one tensor of floats [tokens, numbers], named {' or '.join(_TABLES)}",
            fix="Download the checkpoint again, or choose one whose vectors are not quantized.",
        )
    vectors = tensors[name].to(torch.float32)
    tokenizer, longest = _tokenizer(table.folder / _TOKENIZER)
    rows, width = vectors.shape
    if len(tokenizer) > rows:
        raise InputError(
            f"The tokenizer of {folder} has tokens without vectors",
            received=f"{len(tokenizer)} tokens and {rows} vectors",
            allowed="a vector for each token",
            fix="Download the checkpoint again.",
        )
    modules, dimensions = build_steps(steps, int(width), allow_pickle=allow_pickle)
    module = StaticEmbedder(vectors, modules).eval()
    module.requires_grad_(requires_grad=False)
    stated = read_json(folder / SETTINGS) if (folder / SETTINGS).is_file() else {}
    prompts, default = stated_prompts(stated, folder)
    kinds = [step.kind for step in steps if step.kind != "Dropout"]
    parameters = sum(parameter.numel() for parameter in module.parameters())
    files = [path for path in sorted(folder.rglob("*")) if path.suffix in (".json", ".safetensors", ".bin")]
    place = {"kind": "hf-folder", "name": str(folder), "revision": None, **origin}
    return Source(
        module=module,
        model=ModelFacts(
            architecture="StaticEmbedding",
            vocab_size=int(rows),
            max_positions=longest,
            layers=0,
            parameters=parameters,
            bos=None,
            eos=(),
            pad=None,
            embedding=EmbeddingFacts(
                dimensions=dimensions,
                normalized=kinds[-1:] == ["Normalize"],
                pooling=("mean",),
                prompts=prompts,
                default_prompt=default,
                similarity=stated_similarity(stated, folder),
            ),
        ),
        model_kind=EMBEDDING,
        tokenizer=tokenizer,
        provenance=record_origin(place, licence=None, dtypes={str(tensors[name].dtype)}, files=files),
        weight_bytes=4 * parameters,
    )


def _tokenizer(path: Path) -> tuple[Any, int | None]:
    """A fast tokenizer that adds no token of its own, and the tokens at which it cuts a text off."""
    from tokenizers import Tokenizer
    from transformers import PreTrainedTokenizerFast

    stated = read_json(path)
    cutting = {} if stated.get("truncation") is None else stated["truncation"]
    cut = cutting.get("max_length") if isinstance(cutting, dict) else cutting
    if cut is not None and (not isinstance(cut, int) or isinstance(cut, bool) or cut < 1):
        raise InputError(
            f"{path} cuts texts off at no length",
            received=f"truncation {cutting!r:.60}",
            allowed="null, or a max_length of 1 or more",
            fix="Correct the file, or download it again.",
        )
    plain = {**stated, "post_processor": None, "padding": None, "truncation": None}
    try:
        inner = Tokenizer.from_str(json.dumps(plain))
    except Exception as error:
        raise InputError(
            f"{path} is no tokenizer",
            received=str(error),
            allowed="a file of the tokenizers package",
            fix="Download it again.",
        ) from error
    fast: Any = PreTrainedTokenizerFast
    return fast(tokenizer_object=inner), cut
