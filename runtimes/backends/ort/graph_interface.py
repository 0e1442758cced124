"""What a call of a graph with a state has to know of it: the signature contract, as one session keeps it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from jisu.exporter.contract.signature import (
    ATTENTION_MASK,
    INPUT_IDS,
    LOGITS,
    LOGITS_POSITIONS,
    PAST_LENGTH,
    Signature,
    StateSpec,
)

_FED = (INPUT_IDS, ATTENTION_MASK, PAST_LENGTH, LOGITS_POSITIONS)


@dataclass(frozen=True, kw_only=True)
class GraphInterface:
    """A graph's inputs and outputs.

    Attributes:
        max_positions: None for any number.
        needs_positions: whether the positions of the logits have no default, and are given at every call.
    """

    signature: Signature
    vocab_size: int
    max_positions: int | None
    needs_positions: bool

    @classmethod
    def of_session(
        cls, session: Any, signature: Signature, *, vocab_size: int, max_positions: int | None
    ) -> GraphInterface:
        """The interface of a session that has the signature, see `runtimes.backends.ort.signature.check_session`."""
        required = {item.name for item in session.get_inputs()}
        return cls(
            signature=signature,
            vocab_size=vocab_size,
            max_positions=max_positions,
            needs_positions=LOGITS_POSITIONS in required,
        )

    @property
    def state(self) -> Sequence[StateSpec]:
        return self.signature.state

    @cached_property
    def inputs(self) -> frozenset[str]:
        """Those that every call brings."""
        return frozenset(name for name in _FED if self.signature.has_input(name))

    @cached_property
    def is_recurrent(self) -> bool:
        return any(spec.kind == "recurrent" for spec in self.signature.state)

    @cached_property
    def logits_dtype(self) -> str:
        return next(spec.dtype for spec in self.signature.outputs if spec.name == LOGITS)

    def takes_memory_for(self, rows: int) -> bool:
        """Whether so many rows of logits can be written into memory of ours.

        A graph may declare one row, its default, and then takes no memory for any other number.
        """
        declared = next(spec.dims[1] for spec in self.signature.outputs if spec.name == LOGITS)
        return not isinstance(declared, int) or declared == rows
