"""Stands in for llama-cpp-python: the calls that the worker makes, on a Llama in numpy that reads the GGUF file itself.

``STAND_IN_FAULT`` makes it another model (``rope``), lets it split texts otherwise (``split``), give numbers that are
none (``nan``), or end as llama.cpp does where it finds a file inconsistent (``abort``).
"""

from __future__ import annotations

import ctypes
import os
from types import SimpleNamespace

import gguf
import numpy as np
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

__version__ = "0.0.0 (stand-in)"
LLAMA_VOCAB_TYPE_NONE = 0
FAULT = os.environ.get("STAND_IN_FAULT", "")


class Llama:
    def __init__(self, path, *, n_ctx, n_batch, **_):
        reader = gguf.GGUFReader(path)
        fields = {name: field.contents() for name, field in reader.fields.items()}
        if fields["general.architecture"] != "llama":
            _log(4, b"unknown model architecture\n", None)
            raise ValueError(f"Failed to load model from file: {path}")
        if FAULT == "abort":
            os.write(2, b"ggml.c:1: GGML_ASSERT(a == b) failed\n")
            os.abort()
        self.weights = {tensor.name: tensor.data for tensor in reader.tensors}
        self.heads, self.groups = fields["llama.attention.head_count"], fields["llama.attention.head_count_kv"]
        self.layers, self.eps = fields["llama.block_count"], fields["llama.attention.layer_norm_rms_epsilon"]
        self.base = fields["llama.rope.freq_base"] * (2 if FAULT == "rope" else 1)
        self.tokenizer = _tokenizer(fields) if "tokenizer.ggml.tokens" in fields else None
        self.context, self.seen = n_ctx, []
        self.ctx = self.model = self

    def n_vocab(self):
        return len(self.weights["token_embd.weight"])

    def tokenize(self, text, *, add_bos, special):
        assert special
        return self.tokenizer.encode(text.decode()).ids

    def run(self):
        ids = np.array(self.seen)
        x = self.weights["token_embd.weight"][ids]
        for layer in range(self.layers):
            x = self._layer(x, f"blk.{layer}.")
        x = self._norm(x, "output_norm.weight")
        logits = x @ self.weights.get("output.weight", self.weights["token_embd.weight"]).T
        return logits * np.float32(np.nan) if FAULT == "nan" else logits

    def _layer(self, x, prefix):
        h = self._norm(x, prefix + "attn_norm.weight")
        query, key, value = (h @ self.weights[f"{prefix}attn_{name}.weight"].T for name in "qkv")
        query, key = self._rotated(query, self.heads), self._rotated(key, self.groups)
        value = value.reshape(len(x), self.groups, -1)
        key, value = (np.repeat(one, self.heads // self.groups, axis=1) for one in (key, value))
        scores = np.einsum("thd,shd->hts", query, key) / np.sqrt(query.shape[-1])
        scores = np.where(np.tri(len(x), dtype=bool), scores, -np.inf)
        scores = np.exp(scores - scores.max(axis=-1, keepdims=True))
        scores /= scores.sum(axis=-1, keepdims=True)
        x = (
            x
            + np.einsum("hts,shd->thd", scores, value).reshape(len(x), -1)
            @ self.weights[f"{prefix}attn_output.weight"].T
        )
        h = self._norm(x, prefix + "ffn_norm.weight")
        gate, up = (h @ self.weights[f"{prefix}ffn_{name}.weight"].T for name in ("gate", "up"))
        return x + (gate / (1 + np.exp(-gate)) * up) @ self.weights[prefix + "ffn_down.weight"].T

    def _rotated(self, x, heads):
        """Pairs of neighbours, as the file has them."""
        x = x.reshape(len(x), heads, -1, 2)
        angle = np.arange(len(x))[:, None] * self.base ** -(np.arange(x.shape[2]) / x.shape[2])
        turn = np.exp(1j * angle)[:, None] * (x[..., 0] + 1j * x[..., 1])
        return np.stack([turn.real, turn.imag], axis=-1).reshape(len(x), heads, -1)

    def _norm(self, x, name):
        return x / np.sqrt(np.mean(x * x, axis=-1, keepdims=True) + self.eps) * self.weights[name]


def _tokenizer(fields):
    tokens, merges = fields["tokenizer.ggml.tokens"], fields["tokenizer.ggml.merges"]
    vocabulary = {token: number for number, token in enumerate(tokens)}
    tokenizer = Tokenizer(models.BPE(vocab=vocabulary, merges=[tuple(pair.split(" ")) for pair in merges]))
    if FAULT == "split":
        digits = pre_tokenizers.Digits(individual_digits=False)
        tokenizer.pre_tokenizer = pre_tokenizers.Sequence([digits, pre_tokenizers.ByteLevel(add_prefix_space=True)])
    else:
        tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(
        [t for t, kind in zip(tokens, fields["tokenizer.ggml.token_type"], strict=True) if kind == 3]
    )
    return tokenizer


def llama_model_get_vocab(model):
    return model


def llama_vocab_type(model):
    return LLAMA_VOCAB_TYPE_NONE if model.tokenizer is None else 2


def llama_log_callback(function):
    return function


def llama_log_set(function, _):
    global _log
    _log = function


def llama_get_memory(model):
    return model


def llama_memory_clear(model, data):
    assert data
    model.seen = []


def llama_batch_init(tokens, _, __):
    return SimpleNamespace(
        n_tokens=0,
        token=[0] * tokens,
        pos=[0] * tokens,
        n_seq_id=[0] * tokens,
        seq_id=[[0] for _ in range(tokens)],
        logits=[0] * tokens,
    )


def llama_batch_free(_):
    pass


def llama_decode(model, batch):
    assert batch.pos[0] == len(model.seen) and all(batch.logits)
    if len(model.seen) + batch.n_tokens > model.context:
        return 1
    model.seen += batch.token
    model.out = np.ascontiguousarray(model.run()[-batch.n_tokens :], np.float32)
    return 0


def llama_get_logits(model):
    return model.out.ctypes.data_as(ctypes.POINTER(ctypes.c_float))
