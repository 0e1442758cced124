"""Which tiny models are opened on the stand-in, and what is expected of each; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Case:
    """One artifact for ort-cuda.

    Args:
        family: a model type of transformers, or an own module of the tests.
        unrecorded: words of the reason why single tokens are not recorded as a CUDA graph; None where they are.
        runs: False where sizes are read from what a kernel computed, which nothing has here: such a model is opened.
    """

    family: str
    precision: str
    unrecorded: str | None = None
    runs: bool = True

    @property
    def is_recurrent(self) -> bool:
        """Whether rows of different lengths cannot go through it together."""
        return self.family in ("mamba", "lstm", "gru")

    @property
    def name(self) -> str:
        return f"{self.family}-ort-cuda-{self.precision}"


_COPIES = "copies between the memories"
_CUDNN = "of cuDNN"
_RECORDED = ("llama", "qwen3", "gemma2", "gpt2", "falcon", "mistral", "phi3", "opt", "mamba", "attentive", "bloom")
_INTEGERS = {"llama": ("int8", "int4"), "gemma2": ("int8", "int4"), "phi3": ("int4",), "bloom": ("int8",)}

CASES = (
    *(
        Case(family=family, precision=precision)
        for family in _RECORDED
        for precision in ("fp32", "fp16", "bf16", *_INTEGERS.get(family, ()))
    ),
    # Its queries are clipped.
    Case(family="mpt", precision="bf16"),
    *(Case(family="lstm", precision=precision, unrecorded=_CUDNN) for precision in ("fp32", "fp16", "bf16", "int8")),
    *(Case(family="gru", precision=precision, unrecorded=_CUDNN) for precision in ("fp32", "fp16", "bf16", "int8")),
    # Each expert takes as many tokens as were chosen for it.
    *(Case(family="mixtral", precision=precision, unrecorded=_COPIES, runs=False) for precision in ("fp32", "fp16")),
)
TEXT_TO_TEXT = (
    *(Case(family="t5", precision=precision) for precision in ("fp32", "fp16", "bf16", "int8")),
    *(Case(family="marian", precision=precision) for precision in ("fp32", "fp16", "bf16", "int8")),
)
CLASSIFIERS = tuple(Case(family="bert", precision=precision) for precision in ("fp32", "fp16", "bf16", "int8"))
