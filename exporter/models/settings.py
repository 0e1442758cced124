"""What a small model is built from: the network's kind and its sizes. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal, get_args

from jisu.exporter.contract.errors import InputError

Network = Literal["ngram", "lstm", "gru", "transformer"]
NETWORKS: tuple[Network, ...] = get_args(Network)
PAD_ID = 0  # of `<pad>`: its embedding is zero and stays so


@dataclass(frozen=True, kw_only=True)
class ModelSettings:
    """The sizes of one model.

    Attributes:
        network: what turns embeddings into hidden states.
        vocab_size: token ids are 0..vocab_size - 1.
        embedding_size: numbers per word.
        hidden_size: numbers per hidden state.
        layers: hidden layers of the network.
        heads: attention heads of each layer, for a Transformer.
        context: tokens that an n-gram network sees, the newest included.
        dropout: chance of each number to be dropped while training, 0 to 1.

    Raises:
        InputError: a size that is no positive number, or sizes that do not go together; all of them at once.
    """

    network: Network
    vocab_size: int
    embedding_size: int = 128
    hidden_size: int = 256
    layers: int = 1
    heads: int = 4
    context: int = 4
    dropout: float = 0.1

    def __post_init__(self) -> None:
        wrong = [
            f"{name} {getattr(self, name)}"
            for name in ("vocab_size", "embedding_size", "hidden_size", "layers", "heads", "context")
            if not getattr(self, name) >= 1
        ]
        if self.network not in NETWORKS:
            wrong.append(f"network {self.network!r}")
        if not 0 <= self.dropout < 1:
            wrong.append(f"dropout {self.dropout}")
        if self.network == "ngram" and self.context == 1:
            wrong.append("context 1, which leaves the network nothing to remember")
        if self.network == "transformer" and not wrong and self.hidden_size % (2 * self.heads):
            wrong.append(f"hidden_size {self.hidden_size} with {self.heads} heads")
        if wrong:
            raise InputError(
                "A model cannot be built with these sizes",
                received=", ".join(wrong),
                allowed=f"a network of {', '.join(NETWORKS)}, sizes of 1 or more, dropout from 0 to below 1, "
                "an n-gram of 2 or more tokens, and for a Transformer a hidden size that twice its heads divide",
                fix="Change these sizes.",
            )

    def to_dict(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> ModelSettings:
        """Read what `to_dict` wrote; raises InputError for a missing or unknown field."""
        names = {field.name for field in fields(cls)}
        if set(data) != names:
            raise InputError(
                "The settings of the model cannot be read",
                received=", ".join(sorted(set(data) ^ names)),
                allowed=f"exactly {', '.join(sorted(names))}",
                fix="Train the model again with this version.",
            )
        return cls(**data)
