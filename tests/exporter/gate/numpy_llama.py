"""A llama in numpy with a key/value cache, written apart from torch's, and the faults that it can be given.

It is the candidate of the gate's tests: right, it must be accepted; with any fault, rejected.
"""

from __future__ import annotations

import numpy as np
import torch
from transformers import LlamaConfig, LlamaForCausalLM

VOCAB = 300


def tiny_llama(seed: int = 0) -> LlamaForCausalLM:
    torch.manual_seed(seed)
    config = LlamaConfig(
        vocab_size=VOCAB,
        hidden_size=64,
        intermediate_size=96,
        num_hidden_layers=3,
        num_attention_heads=4,
        num_key_value_heads=2,
        max_position_embeddings=512,
        initializer_range=0.2,
        rms_norm_eps=1e-5,
        tie_word_embeddings=False,
    )
    return LlamaForCausalLM(config).eval()


class NumpyState:
    def __init__(self, model: NumpyLlama, batch: int, capacity: int):
        shape = (model.layers, batch, capacity, model.kv_heads, model.head_size)
        self.keys = np.zeros(shape, np.float32)
        self.values = np.zeros(shape, np.float32)
        self.lengths = np.zeros(batch, np.int64)
        self.capacity = capacity
        self.fault = model.fault
        self.rewinds = model.fault != "rewind-ignored"

    def rewind(self, lengths):
        if self.rewinds:
            self.lengths = np.array(lengths)

    def reorder(self, rows):
        if self.fault == "reorder-ignored":
            self.lengths = self.lengths[rows]
            return
        self.keys, self.values, self.lengths = self.keys[:, rows], self.values[:, rows], self.lengths[rows]


class NumpyLlama:
    name = "numpy"

    def __init__(self, module: LlamaForCausalLM, fault: str | None = None):
        config = module.config
        self.fault = fault
        self.weights = {name: tensor.detach().numpy().copy() for name, tensor in module.state_dict().items()}
        self.vocab_size = config.vocab_size
        self.max_positions = config.max_position_embeddings
        self.layers = config.num_hidden_layers
        self.heads, self.kv_heads = config.num_attention_heads, config.num_key_value_heads
        self.head_size = config.hidden_size // self.heads
        self.eps = config.rms_norm_eps
        base = 20000.0 if fault == "rotary-base" else 10000.0
        self.frequencies = base ** -(np.arange(0, self.head_size, 2) / self.head_size)
        self.order = [1, 0, 2] if fault == "layers-swapped" else list(range(self.layers))
        if fault == "nan":
            self.weights["model.layers.1.mlp.down_proj.weight"][3, 5] = np.nan
        if fault == "one-weight":
            self.weights["model.layers.1.mlp.down_proj.weight"][3, 5] += 1.0
        if fault == "bf16":
            self.weights = {
                name: torch.from_numpy(weight).bfloat16().float().numpy() for name, weight in self.weights.items()
            }

    def new_state(self, batch, capacity):
        return NumpyState(self, batch, capacity)

    def close(self):
        pass

    def forward(self, token_ids, state, *, new_lengths=None, logits="last"):
        batch, new = token_ids.shape
        if self.fault == "raises-on-batches" and batch > 1:
            raise RuntimeError("batch > 1 is not implemented")
        lengths = np.full(batch, new) if new_lengths is None else new_lengths
        past = state.lengths
        positions = past[:, None] + np.arange(new)
        x = self.weights["model.embed_tokens.weight"][token_ids]
        for slot, layer in enumerate(self.order):
            x = self._layer(x, layer, slot, state, positions)
        state.lengths = past + lengths
        x = self._norm(x, "model.norm.weight")
        out = multiply(x, self.weights["lm_head.weight"].T)
        if self.fault == "rows-mixed":
            out = np.roll(out, 1, axis=0)
        if self.fault == "right-for-three":
            out = np.concatenate([out[:3], out[3:][::-1]])
        if logits == "all":
            return out
        last = np.full(batch, new - 1) if self.fault == "last-is-padding" else lengths - 1
        return out[np.arange(batch), last][:, None]

    def _layer(self, x, layer, slot, state, positions):
        batch, new, _ = x.shape
        prefix = f"model.layers.{layer}."
        h = self._norm(x, prefix + "input_layernorm.weight")
        query = self._project(h, prefix + "self_attn.q_proj").reshape(batch, new, self.heads, -1)
        key = self._project(h, prefix + "self_attn.k_proj").reshape(batch, new, self.kv_heads, -1)
        value = self._project(h, prefix + "self_attn.v_proj").reshape(batch, new, self.kv_heads, -1)
        angles = positions
        if self.fault == "chunk-positions" and new > 1:
            angles = np.broadcast_to(np.arange(new), positions.shape)
        if self.fault == "far-steps" and new == 1:
            angles = np.minimum(positions, 269)
        if self.fault == "short-table":
            angles = np.minimum(positions, 255)
        if self.fault == "row-311":
            angles = np.where(positions == 311, 312, positions)
        if self.fault == "half-positions":
            angles = positions.astype(np.float16).astype(np.float64)
        query, key = self._rotate(query, angles), self._rotate(key, angles)
        keys, values = state.keys[slot].copy(), state.values[slot].copy()
        rows = np.arange(batch)[:, None]
        keys[rows, positions], values[rows, positions] = key, value
        self._store(state, slot, keys, values, positions)
        x = x + self._project(self._attend(query, keys, values, positions), prefix + "self_attn.o_proj")
        h = self._norm(x, prefix + "post_attention_layernorm.weight")
        gate = self._project(h, prefix + "mlp.gate_proj")
        h = gate / (1 + np.exp(-gate)) * self._project(h, prefix + "mlp.up_proj")
        return x + self._project(h, prefix + "mlp.down_proj")

    def _store(self, state, slot, keys, values, positions):
        if self.fault == "cache-never-updated":
            return
        if self.fault == "cache-off-by-one":  # this call reads what is right, the next ones what is shifted
            rows = np.arange(len(positions))[:, None]
            target = np.minimum(positions + 1, state.capacity - 1)
            state.keys[slot][rows, target] = keys[rows, positions]
            state.values[slot][rows, target] = values[rows, positions]
            return
        state.keys[slot], state.values[slot] = keys, values

    def _attend(self, query, keys, values, positions):
        group = self.heads // self.kv_heads
        keys, values = np.repeat(keys, group, axis=2), np.repeat(values, group, axis=2)
        scores = multiply(query.transpose(0, 2, 1, 3), keys.transpose(0, 2, 3, 1)) / np.float32(np.sqrt(self.head_size))
        seen = np.arange(keys.shape[1]) <= positions[:, :, None]  # [B, T, S]
        if self.fault == "no-causal-mask":
            seen = np.broadcast_to(np.arange(keys.shape[1]) <= positions.max(), seen.shape)
        if self.fault == "padding-attended" and positions.shape[1] == 1:
            seen = np.broadcast_to(np.arange(keys.shape[1]) <= positions.max(), seen.shape)
        scores = np.where(seen[:, None], scores, np.float32(-np.inf))
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        out = multiply(scores, values.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)
        return out.reshape(*out.shape[:2], -1).astype(np.float32)

    def _rotate(self, x, angles):
        angle = (angles[:, :, None, None] * self.frequencies).astype(np.float32)
        cos, sin = np.cos(angle), np.sin(angle)
        left, right = np.split(x, 2, axis=-1)
        return np.concatenate([left * cos - right * sin, right * cos + left * sin], axis=-1)

    def _norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * self.weights[name]

    def _project(self, x, name):
        return multiply(x, self.weights[name + ".weight"].T)


def multiply(left, right):
    """torch's matrix product: unlike numpy's it can be kept on one thread, which is calmer on a busy machine."""
    return (torch.from_numpy(left) @ torch.from_numpy(right)).numpy()
