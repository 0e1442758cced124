"""Layouts of GGUF tensors that transformers' table of processors lacks, each the inverse of llama.cpp's converter."""

from __future__ import annotations

import functools
import re
from typing import Any

from jisu.exporter.sources.gguf.architectures import INTERLEAVED, OFFSET_NORMS

# Parameters of a layer that are no module's weight or bias, or that the gguf package has no name for.
_BARE_NAMES = {
    "sinks": "attn_sinks.weight",
    "e_score_correction_bias": "exp_probs_b.bias",
    "layer_scalar": "layer_output_scale.weight",
    "router.weight": "ffn_gate_inp.weight",  # of Granite's experts, which gguf 0.19 does not know by this name
}
_BARE = re.compile(rf"(?:model\.)?layers\.(\d+)\.(?:.*\.)?({'|'.join(_BARE_NAMES)})")
_EXPERTS = re.compile(r"(?:model\.)?layers\.(\d+)\.\w+\.experts\.(gate_up_proj|down_proj)(_bias)?")


def processor_of(architecture: str, config: Any) -> Any:
    """The object whose ``process`` turns a tensor of the file into the weight of a transformers model."""
    from transformers.modeling_gguf_pytorch_utils import TENSOR_PROCESSORS

    settings = config.to_dict()
    own = _own()
    if architecture in own:
        return own[architecture](config=settings)
    # Some of transformers' processors take experts apart in ways that no file has; ours know every model's.
    plain = architecture in INTERLEAVED | OFFSET_NORMS or "num_local_experts" in settings or "num_experts" in settings
    known: Any = own["plain"] if plain else TENSOR_PROCESSORS.get(architecture, own["plain"])
    processor = known(config=settings)
    processor.interleaved = architecture in INTERLEAVED
    processor.offset = architecture in OFFSET_NORMS
    return processor


@functools.cache
def _own() -> dict[str, Any]:
    import numpy as np
    from transformers.modeling_gguf_pytorch_utils import GGUFTensor, TensorProcessor

    class Plain(TensorProcessor):
        """Tensors as they are; rows of heads brought into transformers' order; experts' gates and ups put together."""

        interleaved = False
        offset = False

        def __init__(self, config: dict[str, Any] | None = None) -> None:
            super().__init__(config=config)  # type: ignore[no-untyped-call]
            self.halves: dict[str, dict[str, Any]] = {}

        def perform_fallback_tensor_mapping(self, known: dict[str, str], suffix: str, place: str, name: str) -> None:
            if match := _EXPERTS.fullmatch(name):
                layer, part, bias = match.groups()
                kind = ".bias" if bias else ".weight"
                for one in ("gate", "up") if part == "gate_up_proj" else ("down",):
                    known[f"blk.{layer}.ffn_{one}_exps{kind}"] = place + name
            elif match := _BARE.fullmatch(name):
                layer, part = match.groups()
                known[f"blk.{layer}.{_BARE_NAMES[part]}"] = place + name

        def process(self, weights: Any, name: str, **others: Any) -> Any:
            if self.interleaved and (".attn_q." in name or ".attn_k." in name):
                heads = self.config["num_attention_heads" if ".attn_q." in name else "num_key_value_heads"]
                weights = weights.reshape(heads, -1, 2, *weights.shape[1:]).swapaxes(1, 2).reshape(weights.shape)
            if "ffn_gate_exps." in name or "ffn_up_exps." in name:
                self._put_together(weights, name, others["tensor_key_mapping"], others["parsed_parameters"]["tensors"])
                return GGUFTensor(weights, None, {})  # type: ignore[arg-type]
            if "ffn_gate_inp_shexp" in name:
                weights = weights.reshape(1, -1)  # one row, with or without an axis of its own in the file
            if self.offset and name.endswith("norm.weight"):
                weights = weights - 1  # the file has the factor, the model what it adds to one
            return GGUFTensor(self.turned(weights, name), name, {})

        def turned(self, weights: Any, name: str) -> Any:
            return weights

        def joined(self, halves: dict[str, Any]) -> Any:
            return np.concatenate([halves["gate"], halves["up"]], axis=1)

        def _put_together(self, weights: Any, name: str, mapping: dict[str, str], collected: dict[str, Any]) -> None:
            import torch

            target = mapping.get(name) or mapping[name.removesuffix(".weight")]
            halves = self.halves.setdefault(target, {})
            halves["gate" if "ffn_gate_exps" in name else "up"] = weights
            if len(halves) == 2:
                collected[target] = torch.from_numpy(np.ascontiguousarray(self.joined(halves)))
                halves.clear()

    class GptOss(Plain):
        """Experts hold columns where others hold rows, and gate and up interleaved."""

        def turned(self, weights: Any, name: str) -> Any:
            return weights.swapaxes(1, 2) if "ffn_down_exps.weight" in name else weights

        def joined(self, halves: dict[str, Any]) -> Any:
            both = np.stack([halves["gate"], halves["up"]], axis=2)
            rows = both.reshape(both.shape[0], -1, *both.shape[3:])
            return rows.swapaxes(1, 2) if rows.ndim == 3 else rows

    class Falcon(Plain):
        """Queries, keys and values one after another become groups of queries with their key and their value."""

        def turned(self, weights: Any, name: str) -> Any:
            if "attn_qkv" not in name:
                return weights
            heads, groups = self.config["num_attention_heads"], _falcon_groups(self.config)
            rows = weights.shape[0] // (heads + 2 * groups)
            parts = np.split(weights, [heads * rows, (heads + groups) * rows])
            grouped = [part.reshape(groups, -1, *weights.shape[1:]) for part in parts]
            return np.concatenate(grouped, axis=1).reshape(weights.shape)

    class GptNeoX(Plain):
        """All queries, all keys and all values become the query, key and value of each head side by side."""

        def turned(self, weights: Any, name: str) -> Any:
            if "attn_qkv" not in name:
                return weights
            parts = weights.reshape(3, self.config["num_attention_heads"], -1, *weights.shape[1:])
            return np.ascontiguousarray(parts.swapaxes(0, 1)).reshape(weights.shape)

    return {"plain": Plain, "falcon": Falcon, "gpt-oss": GptOss, "gptneox": GptNeoX}


def _falcon_groups(config: dict[str, Any]) -> int:
    """Keys and values of one layer of Falcon."""
    if config["new_decoder_architecture"] or not config["multi_query"]:
        return int(config["num_kv_heads"])
    return 1
