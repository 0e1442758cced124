"""The truth of all sequences in one pass over the layers, so that each layer's weights are read once and let go of.

A reference asked sequence by sequence reads all weights for each of them, which is what takes the time where they do
not fit into memory. What leaves the last layer is kept, [T, C] a sequence; logits are made of it when they are asked
for, by the model's own code behind its layers.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.exporter.gate.domain_tokens import TokenIds
from jisu.exporter.sources.large_projection import read_in_pieces

if TYPE_CHECKING:
    import torch

    from jisu.exporter.gate.reference import TorchReference
    from jisu.exporter.sources.paged_weights import PagedWeights
    from jisu.exporter.sources.source import Source

# Tokens of the sequences on which walking the layers is compared with the model's own forward. Two of them: what passes
# between layers beside their outputs is then another sequence's.
_PROBES = (12, 7)

Arguments = tuple[tuple[Any, ...], dict[str, Any]]


class LayeredReference:
    """`Reference` that runs prepared sequences layer by layer, and any other as the one that it wraps does."""

    def __init__(self, reference: TorchReference, layers: Sequence[Any], paged: PagedWeights | None = None) -> None:
        """
        Args:
            reference: of a transformers model.
            layers: its decoder layers, in the order in which they run.
            paged: the file that the weights lie in, which lets go of each layer when it has run.
        """
        self._inner, self._layers, self._paged = reference, list(layers), paged
        self.vocab_size = reference.vocab_size
        self.description = f"{reference.description}, layer by layer"
        self._last: dict[bytes, npt.NDArray[np.float32]] = {}
        self._wraps = True  # whether a layer gives a tuple

    def walks(self) -> bool:
        """Whether walking the layers of this model gives its own logits, bit for bit, on a few tokens."""
        import torch

        if any("forward" in vars(layer) for layer in self._layers):
            return False  # somebody else has put something into its place
        probes = [(np.arange(length, dtype=np.int64) * length) % self.vocab_size for length in _PROBES]
        seen: list[Any] = []
        hooks = [layer.register_forward_hook(lambda _, args, output: seen.append(output)) for layer in self._layers]
        try:
            expected = [self._ask(tokens) for tokens in probes]
        finally:
            for hook in hooks:
                hook.remove()
        if len(seen) != len(_PROBES) * len(self._layers):
            return False
        wraps = {isinstance(output, tuple) for output in seen}
        hidden = [output[0] if isinstance(output, tuple) and len(output) == 1 else output for output in seen]
        if len(wraps) != 1 or not all(torch.is_tensor(one) and one.dim() == 3 for one in hidden):
            return False
        self._wraps = wraps.pop()
        try:
            self.prepare(probes)
            actual = [self.logits(tokens) for tokens in probes]
        except Exception:  # noqa: BLE001 - layers that cannot be called alone fail in ways of their own
            return False
        finally:
            self._last.clear()
        return all(np.array_equal(one, other) for one, other in zip(actual, expected, strict=True))

    def like(self, other: LayeredReference) -> LayeredReference:
        """The same, its layers called as another's."""
        self._wraps = other._wraps
        return self

    def prepare(self, sequences: Sequence[TokenIds], progress: Callable[[int, int], None] | None = None) -> None:
        """Run the layers over sequences that logits will be asked of, int64 [T] each; known ones are not run again.

        Args:
            progress: called with the layers done and their number.
        """
        new = {one.tobytes(): one for one in self.unknown(sequences)}
        if not new:
            return
        with self._inner.stock():
            arguments, states = [], []
            for tokens in new.values():
                first, calls = self._record(tokens)
                states.append(first)
                arguments.append(calls)
            for number, layer in enumerate(self._layers):
                for index, calls in enumerate(arguments):
                    positional, named = calls[number]
                    output = layer(states[index], *positional, **named)
                    states[index] = output[0] if self._wraps else output
                if self._paged is not None:
                    self._paged.let_go()
                if progress is not None:
                    progress(number + 1, len(self._layers))
        self._last |= {key: state[0].float().numpy() for key, state in zip(new, states, strict=True)}

    def unknown(self, sequences: Sequence[TokenIds]) -> list[TokenIds]:
        """Those that the layers have not been run over, each once."""
        return list({one.tobytes(): one for one in sequences if one.tobytes() not in self._last}.values())

    def last(self, tokens: TokenIds) -> npt.NDArray[np.float32]:
        """What leaves the last layer on a prepared sequence, float32 [T, C]."""
        return self._last[tokens.tobytes()]

    def keep(self, tokens: TokenIds, last: npt.NDArray[np.float32]) -> None:
        """Take what another process has prepared."""
        self._last[tokens.tobytes()] = np.array(last)  # what comes from elsewhere may be read alone

    def forget(self) -> None:
        """Give the memory of what was prepared back."""
        self._last.clear()

    def logits(self, token_ids: TokenIds, positions: slice | None = None) -> npt.NDArray[np.float32]:
        """See `jisu.exporter.gate.reference.Reference.logits`."""
        import torch

        last = self._last.get(token_ids.tobytes())
        if last is None:
            return self._ask(token_ids, positions)
        hidden = torch.from_numpy(last)[None]
        with self._in_place_of_layers(lambda number, args, named: hidden):
            return self._ask(token_ids, positions)

    def _ask(self, token_ids: TokenIds, positions: slice | None = None) -> npt.NDArray[np.float32]:
        """The model's own forward, whose output projection is read in pieces where it is large."""
        with read_in_pieces(self._inner.module, self._paged):
            return self._inner.logits(token_ids, positions)

    def _record(self, tokens: TokenIds) -> tuple[torch.Tensor, list[Arguments]]:
        """What enters the first layer, [1, T, C], and the other arguments of every layer."""
        calls: list[Arguments] = []
        entered: list[Any] = []

        def record(number: int, args: tuple[Any, ...], named: dict[str, Any]) -> torch.Tensor:
            named = dict(named)
            hidden = args[0] if args else named.pop("hidden_states")
            entered.append(hidden)
            calls.append((args[1:], named))
            return hidden  # type: ignore[no-any-return]

        with self._in_place_of_layers(record), _unread_projection(self._inner.module):
            self._inner.logits(tokens, slice(len(tokens) - 1, len(tokens)))
        return entered[0], calls

    @contextlib.contextmanager
    def _in_place_of_layers(self, answer: Callable[[int, tuple[Any, ...], dict[str, Any]], Any]) -> Iterator[None]:
        """Let every layer give what ``answer`` makes of its number and arguments, without reading a weight."""

        def stub(number: int) -> Callable[..., Any]:
            def forward(*args: Any, **named: Any) -> Any:
                hidden = answer(number, args, named)
                return (hidden,) if self._wraps else hidden

            return forward

        for number, layer in enumerate(self._layers):
            layer.forward = stub(number)
        try:
            yield
        finally:
            for layer in self._layers:
                del layer.forward


@contextlib.contextmanager
def _unread_projection(module: Any) -> Iterator[None]:
    """Let the output projection give anything: for each text it would be read as a whole, and widened."""
    from torch import nn

    head: Any = module.get_output_embeddings()
    is_plain = type(head) is nn.Linear and "forward" not in vars(head)
    if not is_plain:
        yield
        return
    head.forward = lambda hidden: hidden.new_empty((*hidden.shape[:-1], head.weight.shape[0]))
    try:
        yield
    finally:
        del head.forward


def in_layers(reference: Any, source: Source) -> Any:
    """A reference that walks the layers of a source whose weights lie in a file, where that gives the same logits."""
    layered = None if source.paged is None else walking(reference, source)
    return reference if layered is None else layered


def walking(reference: Any, source: Source) -> LayeredReference | None:
    """A reference that walks the layers of a source; None where that does not give the same logits."""
    from jisu.exporter.gate.reference import TorchReference
    from jisu.exporter.sources.layers import find_layers, only_first_layers

    stack = find_layers(source.module)
    if stack is None or not isinstance(reference, TorchReference):
        return None
    layers: Any = source.module.get_submodule(stack.path)
    layered = LayeredReference(reference, layers, source.paged)
    if stack.traced == stack.total:
        return layered if layered.walks() else None
    # The others are called as these are, and all of them would have to be read three times.
    first = LayeredReference(reference, layers[: stack.traced], source.paged)
    with only_first_layers(source.module, stack):
        walks = first.walks()
    return layered.like(first) if walks else None
