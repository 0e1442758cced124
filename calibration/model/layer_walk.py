"""Runs the decoder layers of a model one after another over all windows, the rest of the model only once.

What enters the first layer is captured by stopping the model there. Of the activations only the hidden states between
two layers are kept, [windows, T, C]; above a limit they lie in a memory-mapped file.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.calibration.errors import ActivationError, TextError
from jisu.calibration.model.whole_sequences import run_whole

if TYPE_CHECKING:
    import torch

TokenIds = npt.NDArray[np.int64]
IN_MEMORY = 512 << 20  # bytes of hidden states; more go to a file


class StopForwardError(Exception):
    """Ends a forward early, because what was wanted has been seen."""


class HiddenStates:
    """What enters the next layer, float32 [windows, T, C], and the other arguments that each window's layers get."""

    def __init__(self, model: torch.nn.Module, first: torch.nn.Module, windows: list[TokenIds]) -> None:
        """Run the model up to ``first`` on every window.

        Raises:
            TextError: no window, or windows of unequal lengths.
        """
        if not windows or len({len(window) for window in windows}) != 1:
            raise TextError(
                "The layers cannot be walked over these windows",
                received=f"{len(windows)} windows of {sorted({len(window) for window in windows})} tokens",
                allowed="at least one window, all of one length",
                fix="Cut the text into windows of one length.",
            )
        self._file: Any = None
        self._states: npt.NDArray[np.float32] | None = None
        self._arguments: list[tuple[tuple[Any, ...], dict[str, Any]]] = []
        self._count = len(windows)
        for i, window in enumerate(windows):
            self._capture(model, first, window, i)

    def __len__(self) -> int:
        return self._count

    @property
    def bytes(self) -> int:
        """Size of the hidden states."""
        assert self._states is not None
        return self._states.nbytes

    def state(self, window: int) -> npt.NDArray[np.float32]:
        """What enters the next layer on one window, float32 [T, C]; to be read, not changed."""
        assert self._states is not None
        state: npt.NDArray[np.float32] = self._states[window]
        return state

    def run(self, layer: torch.nn.Module, window: int) -> torch.Tensor:
        """The layer's output on one window, [1, T, C]; a `StopForwardError` passes through."""
        import torch

        assert self._states is not None
        hidden = torch.from_numpy(np.array(self._states[window][None]))
        positional, named = self._arguments[window]
        output = layer(hidden, *positional, **named)
        return output[0] if isinstance(output, tuple) else output  # type: ignore[no-any-return]

    def advance(self, layer: torch.nn.Module, *, name: str) -> None:
        """Replace the states by the layer's outputs.

        Raises:
            ActivationError: an output is NaN or infinite; names the layer.
        """
        import torch

        assert self._states is not None
        for window in range(len(self)):
            output = self.run(layer, window)
            if not torch.isfinite(output).all():
                raise not_finite(f"the output of {name}", window)
            self._states[window] = output[0].numpy()

    def all(self) -> npt.NDArray[np.float32]:
        """What enters the next layer on all windows, [windows, T, C]; to be read, not changed."""
        assert self._states is not None
        return self._states

    def replace(self, states: npt.NDArray[np.float32]) -> None:
        """Resume from states that were kept, of the same shape."""
        assert self._states is not None
        self._states[...] = states

    def close(self) -> None:
        """Forget the states and delete their file."""
        self._states = None
        if self._file is not None:
            self._file.close()

    def _capture(self, model: torch.nn.Module, first: torch.nn.Module, window: TokenIds, index: int) -> None:
        import torch

        caught: list[tuple[tuple[Any, ...], dict[str, Any]]] = []

        def hook(_: torch.nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
            caught.append((args, dict(kwargs)))
            raise StopForwardError

        handle = first.register_forward_pre_hook(hook, with_kwargs=True)
        try:
            run_whole(model, torch.from_numpy(np.ascontiguousarray(window))[None])
        except StopForwardError:
            pass
        finally:
            handle.remove()
        (args, kwargs) = caught[0]
        hidden = args[0] if args else kwargs.pop("hidden_states")
        if self._states is None:
            self._states = self._allocate((self._count, *hidden.shape[1:]))
        self._states[index] = hidden[0].float().cpu().numpy()
        # Positions and masks are the same for every window: keep them once.
        earlier = self._arguments[0] if self._arguments else None
        self._arguments.append(_shared((args[1:], kwargs), earlier))

    def _allocate(self, shape: tuple[int, ...]) -> npt.NDArray[np.float32]:
        if 4 * int(np.prod(shape)) <= IN_MEMORY:
            return np.empty(shape, dtype=np.float32)
        self._file = tempfile.TemporaryFile()  # noqa: SIM115 - lives as long as the states
        return np.memmap(self._file, dtype=np.float32, mode="w+", shape=shape)


@contextmanager
def inference(model: torch.nn.Module) -> Iterator[None]:
    """Evaluation mode without gradients; the former mode comes back."""
    import torch

    training = model.training
    model.eval()
    try:
        with torch.no_grad():
            yield
    finally:
        model.train(training)


def not_finite(what: str, window: int) -> ActivationError:
    """The error for NaN or infinite activations."""
    return ActivationError(
        f"There are NaN or infinite values in {what}",
        received=f"non-finite activations in calibration window {window}",
        allowed="finite activations",
        fix="Check the checkpoint, and run it in float32.",
    )


def _shared(value: Any, earlier: Any) -> Any:
    """``value`` with every tensor that equals the one at the same place of ``earlier`` replaced by that one."""
    import torch

    if isinstance(value, torch.Tensor):
        same = isinstance(earlier, torch.Tensor) and earlier.shape == value.shape and torch.equal(earlier, value)
        return earlier if same else value
    if isinstance(value, (tuple, list)):
        olds = earlier if isinstance(earlier, type(value)) and len(earlier) == len(value) else [None] * len(value)
        return type(value)(_shared(new, old) for new, old in zip(value, olds, strict=True))
    if isinstance(value, dict):
        known = earlier if isinstance(earlier, dict) else {}
        return {key: _shared(item, known.get(key)) for key, item in value.items()}
    return value
