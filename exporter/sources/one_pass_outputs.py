"""What a model that reads a whole text at once gives, by the kind of the model: the tensors under one set of names."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.artifact import EMBEDDING, PER_TOKEN_KINDS, ModelKind
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.signature import LAST_HIDDEN_STATE, LOGITS, SENTENCE_EMBEDDING

if TYPE_CHECKING:
    from torch import Tensor

_QUESTIONS: ModelKind = "question-answering"


def output_names(kind: ModelKind) -> tuple[str, ...]:
    """Names of the graph's outputs, the answer last."""
    return (LAST_HIDDEN_STATE, SENTENCE_EMBEDDING) if kind == EMBEDDING else (LOGITS,)


def output_tensors(kind: ModelKind, output: Any, *, model: str) -> tuple[Tensor, ...]:
    """The tensors of `output_names` in what a module's forward returned.

    Args:
        model: named in the error.

    Returns:
        float32; [B, N], of tokens [B, T, N]. Where answers begin and end are two columns of one tensor.

    Raises:
        InputError: they are not there.
    """
    import torch

    if kind == _QUESTIONS and hasattr(output, "start_logits"):
        output = torch.stack([output.start_logits, output.end_logits], dim=-1)
    names = output_names(kind)
    values = [getattr(output, name, output if len(names) == 1 else None) for name in names]
    tensors = [one.to(torch.float32) for one in values if isinstance(one, torch.Tensor)]
    dims, row_of = (3, "token") if kind in PER_TOKEN_KINDS else (2, "text")
    if len(tensors) != len(names) or tensors[-1].dim() != dims:
        shown = f"{names[-1]} of {tensors[-1].dim()} dims" if len(tensors) == len(names) else type(output).__name__
        raise InputError(
            f"{model} does not give what a model for {kind} gives",
            received=shown,
            allowed=f"{' and '.join(names)}, of which {names[-1]} has {dims} dims",
            fix=f"Return one row of numbers for each {row_of}.",
        )
    return tuple(tensors)
