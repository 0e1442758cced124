from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch

from jisu.exporter.contract.errors import InputError
from jisu.runtimes.backends.torch.backend import TorchBackend, TorchState

VOCAB = 4


class Summing(torch.nn.Module):
    """Carries the sum of its tokens; logit 0 of a position is the sum up to it, logit 1 its number."""

    def __init__(self, dtype: Any = torch.float32) -> None:
        super().__init__()
        self.dtype = dtype
        self.widths: list[int] = []

    def state_spec(self) -> list[Any]:
        return [("sum", "recurrent", ("B", 1), self.dtype)]

    def forward(self, ids: torch.Tensor, past: torch.Tensor, state: list[torch.Tensor]) -> Any:
        self.widths.append(ids.shape[1])
        sums = state[0] + ids.cumsum(1)
        logits = torch.zeros((*ids.shape, VOCAB))
        logits[..., 0] = sums.float()
        logits[..., 1] = past[:, None] + torch.arange(ids.shape[1])
        return logits, [sums[:, -1:].to(self.dtype)]


def opened(**options: Any) -> tuple[Summing, TorchBackend]:
    module = Summing(options.pop("dtype", torch.float32))
    return module, TorchBackend(module, vocab_size=VOCAB, max_positions=None, **options)


def ids(*rows: list[int]) -> np.ndarray:
    return np.array(rows, np.int64)


def test_padding_does_not_run_through_a_recurrent_state() -> None:
    _, backend = opened()
    state = backend.new_state(2, 8)
    out = backend.forward(ids([1, 2, 3], [2, 3, 3]), state, new_lengths=np.array([3, 1]))
    assert out[:, 0, 0].tolist() == [6, 2]
    out = backend.forward(ids([1], [1]), state)
    assert out[:, 0, 0].tolist() == [7, 3]
    assert out[:, 0, 1].tolist() == [3, 1]


def test_a_module_of_one_token_gets_one_at_a_time() -> None:
    module, backend = opened(one_token=True)
    out = backend.forward(ids([1, 2, 3]), backend.new_state(1, 8), logits="all")
    assert module.widths == [1, 1, 1]
    assert out[0, :, :2].tolist() == [[1, 0], [3, 1], [6, 2]]


def test_the_dtype_of_a_state_may_be_named() -> None:
    state = TorchState([("sum", "recurrent", ("B", 1), "float64")], batch=2, capacity=3)
    assert state.tensors[0].dtype == torch.float64
    assert tuple(state.tensors[0].shape) == (2, 1)


def test_a_row_of_another_state_brings_what_it_has_summed() -> None:
    _, backend = opened()
    state, part = backend.new_state(2, 8), backend.new_state(1, 3)
    backend.forward(ids([1, 1], [3, 3]), state)
    backend.forward(ids([2, 2, 3]), part)
    state.take_rows(np.array([0]), part)
    out = backend.forward(ids([1], [1]), state)
    assert out[:, 0, :2].tolist() == [[8, 3], [7, 2]]


def test_rows_are_rewound_and_reordered_each_for_itself() -> None:
    _, backend = opened()
    state = backend.new_state(2, 8)
    backend.forward(ids([1, 1], [3, 3]), state)
    state.reorder(np.array([1, 0]))
    state.rewind(np.array([0, 2]))
    out = backend.forward(ids([1], [1]), state)
    assert out[:, 0, 0].tolist() == [1, 3]


def test_an_encoders_tensors_are_read_and_never_replaced() -> None:
    class Reading(Summing):
        def state_spec(self) -> list[Any]:
            return [*super().state_spec(), ("source", "encoder", ("B", "source"), torch.float32)]

        def forward(self, ids: torch.Tensor, past: torch.Tensor, state: list[torch.Tensor]) -> Any:
            logits, written = super().forward(ids, past, state[:1])
            logits[..., 2] = state[1].sum()
            return logits, written

    module = Reading()
    backend = TorchBackend(module, vocab_size=VOCAB, max_positions=None)
    state = TorchState(module.state_spec(), batch=1, capacity=4, encoded=[torch.tensor([[2.0, 3.0]])])
    for _ in range(2):
        assert backend.forward(ids([1]), state)[0, 0, 2] == 5


def test_a_closed_backend_lets_its_module_and_its_states_go() -> None:
    _, backend = opened()
    state = backend.new_state(1, 4)
    backend.close()
    assert state.tensors == []
    with pytest.raises(InputError, match="closed"):
        backend.forward(ids([1]), backend.new_state(1, 4))
