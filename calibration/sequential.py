"""Quantizes the layers of a model one after another, each calibrated on what the already quantized ones give it.

Within a decoder layer the groups of linear layers that share an input (q/k/v, o, gate/up, down) follow in the order
they run, so that each one can make up for the errors before it (Frantar et al. 2023, section 4, apply it per block of
layers). Which algorithm is used is the caller's: it is handed weights and statistics and returns quantized weights.
"""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from jisu.calibration.model.layer_walk import HiddenStates, StopForwardError, TokenIds, inference, not_finite
from jisu.calibration.model.linear_groups import LinearGroup, find_groups, linear_names, routed_as, split_stages
from jisu.calibration.model.weight_values import OwnValues, set_rounded
from jisu.calibration.weights.formats import BlockQuantized, Floats

if TYPE_CHECKING:
    import torch

    from jisu.calibration.w8a8.feeders import Feeder

STAGE_BYTES = 1 << 30  # of the sums that are kept at once
_BLOCK = 1024  # rows of these sums that are added to at once


@dataclass(frozen=True, kw_only=True)
class GroupStatistics:
    """Linear layers with one input, and what is known about it.

    Attributes:
        names: full names of the layers.
        weights: float32 [N_i, K] each.
        hessian: mean of x x^T over the tokens, float32 [K, K].
        mean_abs: mean |x| of each channel, float32 [K].
        tokens: how many there were; none is possible of ``routed`` layers only, and all statistics are zero then.
        feeder: the layer that makes the input, into whose rows channel scales can be folded; see
            `calibration.w8a8.feeders`.
        routed: the layers are an expert's, which sees a few of the tokens.
    """

    names: tuple[str, ...]
    weights: tuple[Floats, ...]
    hessian: Floats
    mean_abs: Floats
    tokens: int
    feeder: Feeder | None = None
    routed: bool = False


class Quantize(Protocol):
    """Quantizes the layers of one group, one result per name."""

    def __call__(self, group: GroupStatistics) -> Sequence[BlockQuantized]: ...


class KeptLayers(Protocol):
    """Keeps what is finished, for a run that is ended before its time."""

    def load(self) -> tuple[list[dict[str, BlockQuantized]], Floats | None]:
        """Results of the first layers, by full name, and what enters the next one, float32 [windows, T, C]."""
        ...

    def save(self, layer: int, results: Mapping[str, BlockQuantized], entering: Floats | None) -> None:
        """Keep a layer's results and what enters the layer after it; None for the last one."""
        ...


def quantize_sequentially(
    model: torch.nn.Module,
    layers: Sequence[torch.nn.Module],
    windows: list[TokenIds],
    quantize: Quantize,
    *,
    keep: Callable[[str], bool] = lambda name: False,
    feeders: Mapping[str, Feeder] | None = None,
    weights: Sequence[float] | None = None,
    restore: bool = False,
    kept: KeptLayers | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Iterator[tuple[str, BlockQuantized]]:
    """Quantize every `nn.Linear` of the layers in place and yield each result as soon as its layer is done.

    The model's weights are replaced by the dequantized ones, for good unless ``restore``. Deterministic: the same
    model, windows and algorithm give the same result.

    Args:
        model: called by `calibration.model.whole_sequences.run_whole`; its layers run in the given order, and what one
            returns is what the next one gets.
        layers: the decoder layers, parts of the model.
        windows: token ids, int64 [T] each, all of one length.
        quantize: the algorithm.
        keep: says of a layer's full name that it stays as it is.
        feeders: see `calibration.w8a8.feeders.find_feeders`; handed on to the algorithm.
        weights: how much each window counts in the statistics, positive; None for all alike.
        restore: give each layer its own weights back once the next one's inputs are known.
        kept: what an earlier run with the same arguments has finished, and where this one keeps it; only with
            ``restore``.
        progress: called with the decoder layers done and their number.

    Raises:
        ActivationError: NaN or infinite activations (names the layer), or a linear layer that is never called.
        TextError: windows of unequal lengths, or none.
    """
    assert kept is None or restore, "layers that were kept do not replace the model's own"
    names = {id(module): name for name, module in model.named_modules()}
    with inference(model):
        states = HiddenStates(model, layers[0], windows)
        try:
            known, entering = ([], None) if kept is None else kept.load()
            if entering is not None:
                states.replace(entering)
            for index, layer in enumerate(layers):
                if index < len(known):
                    if progress:
                        progress(index + 1, len(layers))
                    yield from known[index].items()
                    continue
                prefix = names[id(layer)]
                targets = tuple(name for name in linear_names(layer) if not keep(f"{prefix}.{name}"))
                weights_of: list[Any] = [layer.get_submodule(name).weight for name in targets if restore]
                own = [OwnValues(weight) for weight in weights_of]
                try:
                    done = _quantize_layer(
                        layer, prefix, targets, states, quantize, feeders=feeders or {}, weights=weights
                    )
                    if index + 1 < len(layers):
                        states.advance(layer, name=prefix)
                finally:
                    for values in own:
                        values.restore()
                if kept is not None:
                    kept.save(index, done, states.all() if index + 1 < len(layers) else None)
                if progress:
                    progress(index + 1, len(layers))
                yield from done.items()
        finally:
            states.close()


def split_rows(stacked: BlockQuantized, rows: Sequence[int]) -> list[BlockQuantized]:
    """Undo the stacking of matrices with one input: results of so many rows each, in order."""
    results, start = [], 0
    for count in rows:
        part = slice(start, start + count)
        results.append(
            BlockQuantized(
                codes=stacked.codes[part],
                scales=stacked.scales[part],
                zero_points=stacked.zero_points[part],
                format=stacked.format,
                channel_scales=stacked.channel_scales,
                sums=stacked.sums,
            )
        )
        start += count
    assert start == len(stacked.codes), f"{start} of {len(stacked.codes)} rows"
    return results


def _quantize_layer(
    layer: torch.nn.Module,
    prefix: str,
    targets: tuple[str, ...],
    states: HiddenStates,
    quantize: Quantize,
    *,
    feeders: Mapping[str, Feeder],
    weights: Sequence[float] | None,
) -> dict[str, BlockQuantized]:
    done: dict[str, BlockQuantized] = {}
    if not targets:
        return done
    groups = find_groups(layer, lambda: states.run(layer, 0), names=targets)
    for stage in split_stages(layer, groups):
        observed = observe_stage(layer, prefix, stage, states, feeders=feeders, weights=weights)
        for group, statistics in zip(stage, observed, strict=True):
            results = quantize(statistics)
            _write_back(layer, dict(zip(group.names, results, strict=True)))
            done.update(zip(statistics.names, results, strict=True))
    return done


def observe_stage(
    layer: torch.nn.Module,
    prefix: str,
    stage: Sequence[LinearGroup],
    states: HiddenStates,
    *,
    feeders: Mapping[str, Feeder] | None = None,
    weights: Sequence[float] | None = None,
) -> Iterator[GroupStatistics]:
    """The inputs of groups none of which comes after another, on all windows, summed up.

    Each forward stops as soon as the last of them has its input. Where the sums of all would take more than
    `STAGE_BYTES`, the windows are run again for the next ones.

    Args:
        weights: how much each window counts, positive; None for all alike.
    """
    features = [_features(layer, group) for group in stage]
    start = 0
    while start < len(stage):
        stop, size = start + 1, 4 * features[start] ** 2
        while stop < len(stage) and size + 4 * features[stop] ** 2 <= STAGE_BYTES:
            size += 4 * features[stop] ** 2
            stop += 1
        yield from _observe(layer, prefix, stage[start:stop], states, feeders or {}, weights)
        start = stop


def _observe(
    layer: torch.nn.Module,
    prefix: str,
    groups: Sequence[LinearGroup],
    states: HiddenStates,
    feeders: Mapping[str, Feeder],
    weights: Sequence[float] | None,
) -> Iterator[GroupStatistics]:
    share = 1.0
    inputs = [_Input(_features(layer, group)) for group in groups]

    def watch(total: _Input, *, last: bool) -> Callable[[torch.nn.Module, tuple[torch.Tensor, ...]], None]:
        def hook(_: torch.nn.Module, values: tuple[torch.Tensor, ...]) -> None:
            total.add(values[0], share)
            if last:
                raise StopForwardError

        return hook

    handles = [
        layer.get_submodule(group.names[0]).register_forward_pre_hook(watch(total, last=total is inputs[-1]))
        for group, total in zip(groups, inputs, strict=True)
    ]
    try:
        for window in range(len(states)):
            share = 1.0 if weights is None else weights[window]
            with contextlib.suppress(StopForwardError):
                states.run(layer, window)
            for group, total in zip(groups, inputs, strict=True):
                if not total.finite:
                    raise not_finite(f"the input of {prefix}.{group.names[0]}", window)
    finally:
        for handle in handles:
            handle.remove()
    for group, total in zip(groups, inputs, strict=True):
        members: list[Any] = [layer.get_submodule(name) for name in group.names]
        seen = total.counted or 1.0
        yield GroupStatistics(
            names=tuple(f"{prefix}.{name}" for name in group.names),
            weights=tuple(member.weight.detach().float().numpy() for member in members),
            hessian=total.products().div_(seen).cpu().numpy(),
            mean_abs=total.sum_abs.div_(seen).float().cpu().numpy(),
            tokens=total.tokens,
            feeder=feeders.get(f"{prefix}.{group.names[0]}"),
            routed=routed_as(members[0]) is not None,
        )


class _Input:
    """Running sums over the input of one group, on the device that calculates it."""

    def __init__(self, features: int) -> None:
        import torch

        self.gram, self.tokens, self.counted = torch.zeros(features, features), 0, 0.0
        self.sum_abs = torch.zeros(features, dtype=torch.float64)

    def add(self, values: torch.Tensor, share: float) -> None:
        import torch

        rows = values.reshape(-1, len(self.gram)).float()
        self.gram, self.sum_abs = self.gram.to(rows.device), self.sum_abs.to(rows.device)
        # Above the diagonal alone, block by block; what is below is the same.
        for start in range(0, len(self.gram), _BLOCK):
            block = rows[:, start : start + _BLOCK]
            self.gram[start : start + _BLOCK, start:].addmm_(block.T, rows[:, start:], alpha=share)
        self.sum_abs.add_(rows.abs().sum(dim=0, dtype=torch.float64), alpha=share)
        self.tokens += len(rows)
        self.counted += share * len(rows)

    def products(self) -> torch.Tensor:
        """The sums of x x^T, [K, K], in the memory that they were summed up in."""
        for start in range(0, len(self.gram), _BLOCK):
            stop = start + _BLOCK
            self.gram[stop:, start:stop] = self.gram[start:stop, stop:].T
        return self.gram

    @property
    def finite(self) -> bool:
        import torch

        return bool(torch.isfinite(torch.diagonal(self.gram)).all())


def _features(layer: torch.nn.Module, group: LinearGroup) -> int:
    member: Any = layer.get_submodule(group.names[0])
    return int(member.in_features)


def _write_back(layer: torch.nn.Module, results: dict[str, BlockQuantized]) -> None:

    for name, result in results.items():
        module: Any = layer.get_submodule(name)
        set_rounded(module.weight, result)
