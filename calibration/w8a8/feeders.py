"""Which linear layer makes, row by row, the channels that another one reads (v before o, up before down).

Scaling such a channel is scaling a row of the layer before, which costs nothing when the model runs. Found by trying,
not by name: rows are multiplied by factors of their own, and the channels that move by exactly one of them are its.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from jisu.calibration.model.layer_walk import HiddenStates, TokenIds, inference
from jisu.calibration.model.linear_groups import linear_names, routed_as
from jisu.calibration.model.weight_values import OwnValues, set_values
from jisu.calibration.model.whole_sequences import run_whole
from jisu.calibration.w8a8.matmul import Quantized
from jisu.calibration.weights.folding import divide_quantized_rows, divide_rows
from jisu.calibration.weights.formats import BlockQuantized, Floats

if TYPE_CHECKING:
    import torch

PROBE_TOKENS = 48
# Between factors of two rows; what the float32 of a forward adds is a tenth of it.
_TOLERANCE = 1e-4


@dataclass(frozen=True, kw_only=True)
class Feeder:
    """The layer that makes an input, by full name, and the row of its weight for each channel, int64 [K].

    Several channels can have one row: with grouped queries each value head feeds several columns.

    Attributes:
        crosses_tokens: what it makes reaches other tokens, as values do through attention. A cache holds it then, and
            scaling its rows scales what the cache holds.
    """

    name: str
    rows: npt.NDArray[np.int64]
    crosses_tokens: bool = False

    def tie(self, values: npt.NDArray[Any]) -> Floats:
        """Values [K] with those of one row replaced by their mean."""
        sums = np.zeros(int(self.rows.max()) + 1, np.float64)
        counts = np.zeros_like(sums)
        np.add.at(sums, self.rows, values)
        np.add.at(counts, self.rows, 1)
        tied: Floats = (sums / np.maximum(counts, 1))[self.rows].astype(np.float32)
        return tied

    def row_scales(self, scales: Floats, count: int) -> Floats:
        """Tied channel scales [K] -> of the rows, float32 [count]; a row that feeds nothing has 1."""
        by_row = np.ones(count, np.float32)
        by_row[self.rows] = scales
        return by_row


def find_feeders(model: torch.nn.Module, layers: Sequence[torch.nn.Module], window: TokenIds) -> dict[str, Feeder]:
    """The feeder of every linear layer of the decoder layers that has one, by the reader's full name.

    A feeder has no bias, and the model computes the same when its rows are scaled and its readers' columns divided: all
    of them at once are tried at the end, and where that changes anything there are none.

    Args:
        model: float32; as before when this returns.
        layers: its decoder layers, in running order.
        window: token ids the forwards run on, int64 [T]; at most `PROBE_TOKENS` of them.
    """
    import torch

    names = {id(module): name for name, module in model.named_modules()}
    window = window[:PROBE_TOKENS]
    feeders: dict[str, Feeder] = {}
    usual: dict[str, str] = {}
    with inference(model):
        states = HiddenStates(model, layers[0], [window])
        try:
            for index, layer in enumerate(layers):
                local = _feeders_of(layer, lambda layer=layer: states.run(layer, 0), usual)
                usual = {reader: feeder.name for reader, feeder in local.items()} or usual
                prefix = names[id(layer)]
                for reader, feeder in local.items():
                    feeders[f"{prefix}.{reader}"] = replace(feeder, name=f"{prefix}.{feeder.name}")
                if index + 1 < len(layers):
                    states.advance(layer, name=prefix)
        finally:
            states.close()
        ids = torch.from_numpy(np.ascontiguousarray(window))[None]
        truth = run_whole(model, ids)
        with _rescaled(model, layers, feeders):
            moved = run_whole(model, ids)
        same = torch.allclose(moved, truth, rtol=1e-3, atol=1e-3 * float(truth.abs().max()))
    return feeders if same else {}


def fold_into_feeders(quantized: Mapping[str, Quantized], feeders: Mapping[str, Feeder]) -> dict[str, Quantized]:
    """Undo channel scales in the layers before, by module path; those without a quantized feeder stay as they are.

    Every reader of one feeder has the same scales, tied as `Feeder.tie` does.
    """
    results = dict(quantized)
    done: dict[str, Floats] = {}
    for reader, feeder in feeders.items():
        part = quantized.get(reader)
        before = results.get(feeder.name)
        if part is None or part.channel_scales is None or before is None:
            continue
        scales = part.channel_scales
        if feeder.name not in done:
            done[feeder.name] = scales
            results[feeder.name] = _divide_rows(before, feeder.row_scales(scales, len(before.codes)))
        assert np.array_equal(done[feeder.name], scales), f"the readers of {feeder.name} differ in their scales"
        results[reader] = replace(part, channel_scales=None)
    return results


def _divide_rows(part: Quantized, scales: Floats) -> Quantized:
    if isinstance(part, BlockQuantized):
        return divide_quantized_rows(part, scales)
    return replace(part, scales=divide_rows(part.scales, scales))


def _feeders_of(layer: torch.nn.Module, run: Any, usual: Mapping[str, str]) -> dict[str, Feeder]:
    """The feeders inside of one layer by the reader's name; ``usual`` are those of the layer before, tried first."""
    modules: dict[str, Any] = {name: layer.get_submodule(name) for name in linear_names(layer)}
    # An expert sees a few of the tokens, so that its inputs cannot be told apart by their rows.
    modules = {name: module for name, module in modules.items() if routed_as(module) is None}
    feeding = [name for name, module in modules.items() if module.bias is None]
    before = _inputs(modules, run)
    feeders: dict[str, Feeder] = {}
    if usual and set(usual) | set(usual.values()) <= set(modules):
        for name in dict.fromkeys(usual.values()):
            feeders |= _readers(modules, name, [reader for reader in usual if usual[reader] == name], before, run)
        if set(feeders) == set(usual):
            return feeders
    for name in feeding:
        others = [reader for reader in modules if reader != name]
        feeders = _readers(modules, name, others, before, run) | feeders
    return feeders


def _readers(
    modules: Mapping[str, Any], name: str, readers: Sequence[str], before: Mapping[str, Any], run: Any
) -> dict[str, Feeder]:
    """Those of the readers whose input channels each follow one row of a layer's weight."""
    weight = modules[name].weight
    generator = np.random.default_rng(0)
    # Distinct in every place, in an order that tells nothing of the rows' own; one is what stays as it is.
    factors = generator.permutation(np.linspace(1.25, 2.5, len(weight))).astype(np.float32)
    feeders: dict[str, Feeder] = {}
    with _scaled_rows(weight, factors):
        after = _inputs(modules, run)
    for reader in readers:
        if reader not in before or reader not in after or before[reader].shape != after[reader].shape:
            continue
        rows = _matched(before[reader], after[reader], factors)
        if rows is not None:
            feeders[reader] = Feeder(name=name, rows=rows)
    crossing = _crossing(modules, name, list(feeders), before, run) if feeders else set()
    return {reader: replace(feeder, crosses_tokens=reader in crossing) for reader, feeder in feeders.items()}


def _crossing(
    modules: Mapping[str, Any], name: str, readers: Sequence[str], before: Mapping[str, Any], run: Any
) -> set[str]:
    """Those of the readers whose input at later tokens moves with what the layer makes of the first one."""

    def double_first(_: Any, __: Any, output: Any) -> Any:
        changed = output.clone()
        changed[..., 0, :] *= 2
        return changed

    handle = modules[name].register_forward_hook(double_first)
    try:
        after = _inputs(modules, run)
    finally:
        handle.remove()
    return {
        reader
        for reader in readers
        if not np.allclose(after[reader][1:], before[reader][1:], rtol=0, atol=_TOLERANCE * abs(before[reader]).max())
    }


def _matched(before: Floats, after: Floats, factors: Floats) -> npt.NDArray[np.int64] | None:
    """The row that each channel of [tokens, K] moved with, None when a channel did something else."""
    place = np.abs(before).argmax(axis=0)
    channels = np.arange(before.shape[1])
    largest = before[place, channels]
    if not (largest != 0).all():
        return None
    ratios = after[place, channels] / largest
    order = np.argsort(factors)
    spots = np.clip(np.searchsorted(factors[order], ratios), 1, len(factors) - 1)
    lower, upper = order[spots - 1], order[spots]
    rows = np.where(np.abs(factors[lower] - ratios) <= np.abs(factors[upper] - ratios), lower, upper)
    expected = before * factors[rows]
    scale = np.abs(before).max(axis=0)
    return rows.astype(np.int64) if (np.abs(after - expected) <= _TOLERANCE * scale).all() else None


def _inputs(modules: Mapping[str, Any], run: Any) -> dict[str, Floats]:
    """What each linear layer reads in one forward, float32 [tokens, K]."""
    inputs_by_name: dict[str, Floats] = {}

    def watch(name: str) -> Any:
        def hook(_: Any, inputs: tuple[Any, ...]) -> None:
            rows = inputs[0].detach().float().reshape(-1, inputs[0].shape[-1])
            inputs_by_name.setdefault(name, rows.cpu().numpy().copy())

        return hook

    handles = [module.register_forward_pre_hook(watch(name)) for name, module in modules.items()]
    try:
        run()
    finally:
        for handle in handles:
            handle.remove()
    return inputs_by_name


@contextmanager
def _scaled_rows(weight: torch.Tensor, factors: Floats) -> Iterator[None]:
    import torch

    own = OwnValues(weight)
    try:
        set_values(weight, weight.detach() * torch.from_numpy(factors)[:, None])
        yield
    finally:
        own.restore()


@contextmanager
def _rescaled(model: torch.nn.Module, layers: Sequence[Any], feeders: Mapping[str, Feeder]) -> Iterator[None]:
    """Every feeder's rows times random factors, and its readers' columns divided by them, while their layer is called.

    One layer's own weights are in memory beside the model at a time.
    """
    generator = np.random.default_rng(1)
    factors: dict[str, Floats] = {}
    for feeder in feeders.values():
        if feeder.name not in factors:
            rows = len(_weight(model, feeder.name))
            factors[feeder.name] = generator.uniform(0.5, 2.0, rows).astype(np.float32)
    names = {id(module): name for name, module in model.named_modules()}
    handles = []
    for layer in layers:
        prefix = f"{names[id(layer)]}."
        local = {reader: feeder for reader, feeder in feeders.items() if reader.startswith(prefix)}
        call = _RescaledCall(model, local, factors)
        # Before whatever else brings the layer's weights to where they are computed with.
        handles.append(layer.register_forward_pre_hook(call.begin, prepend=True))
        handles.append(layer.register_forward_hook(call.end, always_call=True))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


class _RescaledCall:
    """A layer's call: its weights are rescaled from the beginning of one to its end, whatever ends it."""

    def __init__(self, model: torch.nn.Module, feeders: Mapping[str, Feeder], factors: Mapping[str, Floats]) -> None:
        self._model, self._feeders, self._factors = model, feeders, factors
        self._own: list[OwnValues] = []

    def begin(self, *_: Any) -> None:
        """Multiply the feeders' rows and divide the readers' columns."""
        import torch

        for name in {feeder.name: None for feeder in self._feeders.values()}:
            self._set(name, torch.from_numpy(self._factors[name])[:, None])
        for reader, feeder in self._feeders.items():
            self._set(reader, 1 / torch.from_numpy(self._factors[feeder.name][feeder.rows])[None])

    def end(self, *_: Any) -> None:
        """Give the weights their own values back; in reverse, since a layer that feeds and reads was copied twice."""
        while self._own:
            self._own.pop().restore()

    def _set(self, name: str, factors: torch.Tensor) -> None:
        weight = _weight(self._model, name)
        self._own.append(OwnValues(weight))
        set_values(weight, weight.detach() * factors)


def _weight(model: torch.nn.Module, name: str) -> Any:
    module: Any = model.get_submodule(name)
    return module.weight
