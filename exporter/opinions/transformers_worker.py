"""transformers by its plain public way, asked about a folder: nothing of ours touches model or tokenizer."""

from __future__ import annotations

import contextlib
from typing import Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.opinions.worker import answer

_CLASSES = {"text-generation": "AutoModelForCausalLM"}


class PlainTransformers:
    """See `exporter.opinions.worker.Implementation`."""

    def __init__(self, questions: dict[str, Any]) -> None:
        import torch
        import transformers

        torch.set_num_threads(questions["threads"])
        transformers.logging.set_verbosity_error()  # type: ignore[attr-defined,no-untyped-call,unused-ignore]
        folder: str = questions["checkpoint"]
        model_class: Any = getattr(transformers, _CLASSES[questions["task"]])
        self._model: Any = model_class.from_pretrained(
            folder, dtype=torch.float32, local_files_only=True, use_safetensors=None if questions["pickle"] else True
        ).eval()
        self._tokenizer: Any = None
        with contextlib.suppress(Exception):  # the folder has none; whether it should, the comparison knows
            self._tokenizer = transformers.AutoTokenizer.from_pretrained(folder, local_files_only=True)
        self.version = f"transformers {transformers.__version__}, torch {torch.__version__}"
        self.vocab_size = int(self._model.get_output_embeddings().weight.shape[0])
        self.has_tokenizer = self._tokenizer is not None

    def encode(self, text: str, *, special_tokens: bool) -> list[int]:
        ids: list[int] = self._tokenizer.encode(text, add_special_tokens=special_tokens)
        return ids

    def render(self, messages: list[dict[str, str]]) -> str | None:
        if not getattr(self._tokenizer, "chat_template", None):
            return None
        text: str = self._tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        return text

    def logits(self, ids: list[int]) -> npt.NDArray[np.float32]:
        import torch

        with torch.inference_mode():
            logits: npt.NDArray[np.float32] = (
                self._model(torch.tensor([ids]), use_cache=False).logits[0].float().numpy()
            )
        return logits

    def continue_greedily(self, ids: list[int], count: int) -> tuple[list[int], npt.NDArray[np.float32]]:
        import torch

        prompt = torch.tensor([ids])
        generated = self._model.generate(
            prompt,
            attention_mask=torch.ones_like(prompt),
            max_new_tokens=count,
            do_sample=False,
            num_beams=1,
            output_scores=True,
            return_dict_in_generate=True,
        )
        scores = torch.cat(generated.scores).float().numpy()
        return generated.sequences[0, len(ids) :].tolist(), scores


if __name__ == "__main__":
    answer(PlainTransformers)
