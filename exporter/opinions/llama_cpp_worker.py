"""llama.cpp, through its Python package, asked about a GGUF file.

Its cache is float32 and its attention not the fused one, so that its numbers are as close to the file's as it can come.
"""

from __future__ import annotations

import ctypes
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.opinions.worker import answer

_PIECE = 512  # tokens of one call
_FLOAT32 = 0  # of GGML's types


class LlamaCpp:
    """See `exporter.opinions.worker.Implementation`."""

    def __init__(self, questions: dict[str, Any]) -> None:
        import llama_cpp  # type: ignore[import-not-found,unused-ignore]

        self._api: Any = llama_cpp
        lengths = [len(ids) for ids in questions["sequences"]]
        lengths += [len(ids) + int(questions["new_tokens"]) for ids in questions["prompts"]]
        self._said: list[str] = []
        self._keep_errors()
        self._engine = self._open(questions, context=max(lengths, default=1))
        vocabulary = llama_cpp.llama_model_get_vocab(self._engine.model)
        self.version = f"llama-cpp-python {llama_cpp.__version__}"
        self.vocab_size = int(self._engine.n_vocab())
        self.has_tokenizer = llama_cpp.llama_vocab_type(vocabulary) != llama_cpp.LLAMA_VOCAB_TYPE_NONE

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        ids: list[int] = self._engine.tokenize(text.encode(), add_bos=special_tokens, special=True)
        return ids

    def render(self, messages: list[dict[str, str]]) -> str | None:
        return None  # it renders templates with an engine of its Python package, which is not its own

    def logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        self._forget()
        pieces = [self._decode(ids[start : start + _PIECE], start) for start in range(0, len(ids), _PIECE)]
        return np.concatenate(pieces)

    def continue_greedily(self, ids: list[int], count: int) -> tuple[list[int], npt.NDArray[np.float32]]:
        rows = [self.logits(ids)[-1]]
        tokens = [int(rows[0].argmax())]
        while len(tokens) < count:
            rows.append(self._decode(tokens[-1:], len(ids) + len(tokens) - 1)[0])
            tokens.append(int(rows[-1].argmax()))
        return tokens, np.stack(rows)

    def _open(self, questions: dict[str, Any], *, context: int) -> Any:
        options: dict[str, Any] = {"n_ctx": context, "n_batch": _PIECE, "n_ubatch": _PIECE, "verbose": False}
        options |= {"n_threads": questions["threads"], "n_threads_batch": questions["threads"], "n_gpu_layers": 0}
        options |= {"type_k": _FLOAT32, "type_v": _FLOAT32, "flash_attn": False, "swa_full": True}
        try:
            return self._api.Llama(questions["checkpoint"], **options)
        except ValueError as error:
            raise ValueError("; ".join([str(error), *self._said[-3:]])) from error

    def _keep_errors(self) -> None:
        """Have what it says about a file that it cannot open, which its Python package sends to nowhere."""

        @self._api.llama_log_callback  # type: ignore[untyped-decorator,unused-ignore]
        def keep(level: int, text: bytes, _: Any) -> None:
            if level >= 4:  # GGML_LOG_LEVEL_ERROR, and what continues it
                self._said.append(text.decode("utf-8", errors="replace").strip())

        self._keep = keep  # C holds no reference to it
        self._api.llama_log_set(keep, ctypes.c_void_p(0))

    def _forget(self) -> None:
        self._api.llama_memory_clear(self._api.llama_get_memory(self._engine.ctx), True)  # noqa: FBT003

    def _decode(self, ids: list[int], start: int) -> npt.NDArray[np.float32]:
        batch = self._api.llama_batch_init(len(ids), 0, 1)
        try:
            batch.n_tokens = len(ids)
            for place, token in enumerate(ids):
                batch.token[place], batch.pos[place] = token, start + place
                batch.n_seq_id[place], batch.seq_id[place][0] = 1, 0
                batch.logits[place] = 1  # those of every token, not of the last one only
            if (code := self._api.llama_decode(self._engine.ctx, batch)) != 0:
                raise RuntimeError(f"llama_decode failed with {code} at position {start}")
            logits = np.ctypeslib.as_array(
                self._api.llama_get_logits(self._engine.ctx), shape=(len(ids), self.vocab_size)
            )
            return np.array(logits, np.float32)
        finally:
            self._api.llama_batch_free(batch)


if __name__ == "__main__":
    answer(LlamaCpp)
