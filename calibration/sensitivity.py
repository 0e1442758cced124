"""How much a model's predictions move when one group of weights is quantized and everything else stays as it is.

For each group of linear layers with one input, and for each candidate, the rest of the model runs on from the layer's
own float32 input: KL divergence of the next-token distribution on a few windows. Nothing before the layer is computed
again, and the model's weights are as before when it returns.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.calibration.model.layer_walk import HiddenStates, TokenIds, inference, not_finite
from jisu.calibration.model.linear_groups import find_groups, linear_names, split_stages
from jisu.calibration.model.weight_values import OwnValues, set_rounded
from jisu.calibration.model.whole_sequences import run_whole
from jisu.calibration.sequential import GroupStatistics, observe_stage
from jisu.calibration.weights.formats import BlockQuantized

if TYPE_CHECKING:
    import torch

    from jisu.calibration.w8a8.feeders import Feeder

# What is kept of the reference's distributions; fewer windows are scored when the vocabulary is large.
REFERENCE_BYTES = 128 << 20

# A group's statistics -> (label, result per matrix) of every candidate.
Candidates = Callable[[GroupStatistics], Iterator[tuple[str, Sequence[BlockQuantized]]]]


def rows_of(logits: torch.Tensor) -> torch.Tensor:
    """One row for each distribution of a single sequence: [1, T, V] or, of a classifier, [1, labels] -> [N, V]."""
    return logits.reshape(-1, logits.shape[-1]).float()


@dataclass(frozen=True, kw_only=True)
class GroupSensitivity:
    """What quantizing one group costs.

    Attributes:
        names: full names of the matrices that are quantized together.
        kl: label of the candidate -> mean KL divergence in nats per token.
    """

    names: tuple[str, ...]
    kl: Mapping[str, float]


class Scorer:
    """The model's own next-token distributions on some windows, to compare a changed model with."""

    def __init__(self, model: torch.nn.Module, layers: Sequence[torch.nn.Module], windows: Sequence[TokenIds]) -> None:
        """Run the model on as many windows as `REFERENCE_BYTES` allow, and on one at least.

        Raises:
            ActivationError: NaN or infinite logits, or those of a layer that come before them (names the layer).
        """
        import torch

        self._model, self._layers = model, layers
        self._returned: list[int | None] = [None] * len(layers)
        self._first_not_finite: str | None = None
        self._windows: list[Any] = []
        self._truth: list[tuple[torch.Tensor, torch.Tensor]] = []
        stored = 0
        with inference(model), self._watching():
            for number, window in enumerate(windows):
                ids = torch.from_numpy(np.ascontiguousarray(window))[None]
                logits = rows_of(run_whole(model, ids))
                if not torch.isfinite(logits).all():
                    raise not_finite(f"the output of {self._first_not_finite or 'the model'}", number)
                stored += logits.nbytes
                if self._windows and stored > REFERENCE_BYTES:
                    break
                probabilities = logits.softmax(-1)
                # sum p log p, with 0 log 0 = 0
                negative_entropy = torch.special.xlogy(probabilities, probabilities).sum(-1)
                self._windows.append(ids)
                self._truth.append((probabilities, negative_entropy))

    @property
    def windows(self) -> list[TokenIds]:
        """The windows that are scored, int64 [T] each."""
        return [ids[0].numpy() for ids in self._windows]

    def divergence(self, states: HiddenStates | None = None, *, start: int = 0) -> float:
        """Mean KL divergence in nats from the model as it was to the model as it is now.

        Args:
            states: what enters the layer ``start`` on each of the windows; None to run the whole model.
            start: layers before it are not run.
        """
        import torch

        total, tokens = 0.0, 0
        with inference(self._model):
            for i, (ids, (probabilities, negative_entropy)) in enumerate(zip(self._windows, self._truth, strict=True)):
                with self._starting_at(start, None if states is None else states.state(i)):
                    logits = rows_of(run_whole(self._model, ids))
                cross = torch.linalg.vecdot(probabilities, logits.log_softmax(-1))
                total += float((negative_entropy - cross).double().sum())
                tokens += len(cross)
        return total / tokens

    @contextmanager
    def _watching(self) -> Iterator[None]:
        """Learn which layers return a tuple, and of how many, and which is the first with NaN or infinite outputs."""
        import torch

        handles = []
        names = {id(module): name for name, module in self._model.named_modules()}
        for index, layer in enumerate(self._layers):

            def hook(_: Any, inputs: Any, output: Any, index: int = index) -> None:
                self._returned[index] = len(output) if isinstance(output, tuple) else None
                hidden = output[0] if isinstance(output, tuple) else output
                if self._first_not_finite is None and not torch.isfinite(hidden).all():
                    self._first_not_finite = names[id(self._layers[index])]

            handles.append(layer.register_forward_hook(hook))
        try:
            yield
        finally:
            for handle in handles:
                handle.remove()

    @contextmanager
    def _starting_at(self, start: int, state: npt.NDArray[np.float32] | None) -> Iterator[None]:
        """Let every layer before ``start`` hand on the state that enters that layer."""
        import torch

        if state is None:
            yield
            return
        hidden = torch.from_numpy(np.array(state))[None]
        skipped = list(self._layers[:start])
        for layer, count in zip(skipped, self._returned, strict=False):
            output = hidden if count is None else (hidden, *[None] * (count - 1))
            layer.forward = lambda *_, output=output, **__: output
        try:
            yield
        finally:
            for layer in skipped:
                del layer.forward


def measure_groups(
    model: torch.nn.Module,
    layers: Sequence[torch.nn.Module],
    *,
    calibration: Sequence[TokenIds],
    scorer: Scorer,
    candidates: Candidates,
    keep: Callable[[str], bool] = lambda name: False,
    feeders: Mapping[str, Feeder] | None = None,
    known: Mapping[int, Sequence[GroupSensitivity]] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[int, list[GroupSensitivity]]]:
    """Measure every group of every decoder layer; yields (layer, its groups) as soon as a layer is done.

    The matrices that experts have alike are measured as one group: each alone would take as many runs as there are.

    Args:
        layers: the decoder layers, parts of the model, in running order.
        calibration: windows for the candidates' statistics, int64 [T] each, all of one length.
        scorer: of the same model, made before anything was changed.
        candidates: makes the results to compare.
        keep: says of a layer's full name that it is not quantized.
        feeders: see `calibration.w8a8.feeders.find_feeders`; handed on to the candidates.
        known: layers measured earlier, which are passed by.
        progress: called with the layers done and their number.

    Raises:
        ActivationError: NaN or infinite activations (names the layer).
    """

    names = {id(module): name for name, module in model.named_modules()}
    with inference(model):
        inputs = HiddenStates(model, layers[0], list(calibration))
        scored = HiddenStates(model, layers[0], scorer.windows)
        try:
            for index, layer in enumerate(layers):
                prefix = names[id(layer)]
                if known and index in known:
                    sensitivities = list(known[index])
                else:
                    sensitivities = []
                    targets = tuple(name for name in linear_names(layer) if not keep(f"{prefix}.{name}"))
                    groups = find_groups(layer, lambda layer=layer: inputs.run(layer, 0), names=targets)  # type: ignore[misc]
                    for stage in split_stages(layer, groups) if targets else []:
                        members = [name for group in stage for name in group.names]
                        weights: list[Any] = [layer.get_submodule(name).weight for name in members]
                        own = [OwnValues(weight) for weight in weights]
                        kl = {}
                        observed = list(observe_stage(layer, prefix, stage, inputs, feeders=feeders))
                        for label, results in _together(candidates, observed):
                            try:
                                for weight, result in zip(weights, results, strict=True):
                                    set_rounded(weight, result)
                                kl[label] = scorer.divergence(scored, start=index)
                            finally:
                                # Before the next candidate is made: it is made of the very weights.
                                for values in own:
                                    values.restore()
                        names_of = tuple(name for statistics in observed for name in statistics.names)
                        sensitivities.append(GroupSensitivity(names=names_of, kl=kl))
                yield index, sensitivities
                if index + 1 < len(layers):
                    inputs.advance(layer, name=prefix)
                    scored.advance(layer, name=prefix)
                if progress:
                    progress(index + 1, len(layers))
        finally:
            inputs.close()
            scored.close()


def _together(
    candidates: Candidates, observed: Sequence[GroupStatistics]
) -> Iterator[tuple[str, list[BlockQuantized]]]:
    """(label, results of all groups) of every candidate; the groups of a stage have the same candidates."""
    for pairs in zip(*(candidates(statistics) for statistics in observed), strict=True):
        assert len({label for label, _ in pairs}) == 1, "groups of one stage with other candidates"
        yield pairs[0][0], [result for _, results in pairs for result in results]
