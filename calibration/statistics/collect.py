"""Runs a model over calibration windows and adds up what its layers are fed; never keeps an activation.

Hooks on the torch modules (`nn.Linear`, `nn.LSTM`, `nn.GRU`), no list of architectures. The sums are saved every few
windows, and an interrupted collection resumes from there with the same result.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from jisu.calibration.errors import CalibrationError, StatisticsError
from jisu.calibration.model.layer_walk import TokenIds, inference, not_finite
from jisu.calibration.model.linear_groups import find_groups
from jisu.calibration.model.whole_sequences import run_whole
from jisu.calibration.statistics.statistics import InputStatistics, Origin, Statistics, has_statistics, write_statistics
from jisu.calibration.text.fingerprint import model_fingerprint
from jisu.calibration.text.windows import Windows

if TYPE_CHECKING:
    import torch

    Run = Callable[[torch.nn.Module, TokenIds], Any]

PROBE_TOKENS = 8  # of the first window, to see which layers share an input


@dataclass(frozen=True, kw_only=True)
class CollectSettings:
    """What to collect beside the sums per channel.

    Attributes:
        hessians: X^T X per input, 4 K**2 bytes each, all of them in memory at once.
        save_every: windows between two saves.
    """

    hessians: bool = False
    save_every: int = 16

    def __post_init__(self) -> None:
        if self.save_every < 1:
            raise CalibrationError(
                "The statistics cannot be saved this often",
                received=f"every {self.save_every} windows",
                allowed="every 1 or more windows",
                fix="Use 16.",
            )


def collect(
    model: torch.nn.Module,
    windows: Windows,
    folder: str | Path,
    *,
    settings: CollectSettings | None = None,
    run: Run | None = None,
    keep: Callable[[str], bool] = lambda name: False,
    probe: TokenIds | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Statistics:
    """Collect statistics into a folder, or resume what is there.

    Args:
        model: in float32; its mode is restored afterwards.
        windows: what it is run on.
        folder: for the statistics; may hold unfinished or finished ones of the same model, windows and settings.
        run: one forward on int64 [T]; by default `calibration.model.whole_sequences.run_whole`.
        keep: says of a layer's full name that nothing is collected for it.
        probe: shows which layers share an input, int64 [T]; the beginning of the first window when None.
        progress: called with the windows done and their number.

    Raises:
        StatisticsError: the folder holds statistics of something else.
        ActivationError: a layer's input or output is NaN or infinite; names the layer and the window.
    """
    settings = settings or CollectSettings()
    run, folder = run or run_alone, Path(folder)
    collected = {key: value for key, value in asdict(settings).items() if key != "save_every"}
    origin = Origin(model=model_fingerprint(model), windows=windows.sha256, settings=collected)
    window_count = len(windows.ids)
    with inference(model):
        done, sums = _resume(folder, origin)
        if sums is None:
            names = tuple(name for name in observed_names(model) if not keep(name))
            first = windows.ids[0][:PROBE_TOKENS] if probe is None else probe
            groups = find_groups(model, lambda: run(model, first), names=names, require_all=False)
            sums = [_Sum(model, group.names, settings) for group in groups]
        try:
            for total in sums:
                total.attach(model)
            while done < window_count:
                for total in sums:
                    total.window = done
                run(model, windows.ids[done])
                done += 1
                if progress:
                    progress(done, window_count)
                if done % settings.save_every == 0 or done == window_count:
                    results = (total.result() for total in sums)
                    write_statistics(folder, origin, results, windows_done=done, windows_wanted=window_count)
        finally:
            for total in sums:
                total.detach()
    return Statistics(folder)


def run_alone(model: torch.nn.Module, token_ids: TokenIds) -> Any:
    """One forward over one sequence, int64 [T]."""
    import torch

    return run_whole(model, torch.from_numpy(np.ascontiguousarray(token_ids))[None])


def observed_names(model: torch.nn.Module) -> tuple[str, ...]:
    """Names of the layers whose inputs are observed: linear and recurrent ones."""
    import torch

    kinds = (torch.nn.Linear, torch.nn.LSTM, torch.nn.GRU)
    return tuple(name for name, child in model.named_modules() if isinstance(child, kinds))


def _resume(folder: Path, origin: Origin) -> tuple[int, list[_Sum] | None]:
    if not has_statistics(folder):
        return 0, None
    former = Statistics(folder)
    former_origin = former.origin
    if former_origin != origin:
        parts = {"model": "another model", "windows": "other windows of text", "settings": "other settings"}
        other = [words for part, words in parts.items() if getattr(former_origin, part) != getattr(origin, part)]
        raise StatisticsError(
            f"{folder} holds statistics of something else",
            received=" and ".join(other),
            allowed="an empty folder, or one with statistics of the same model, windows and settings",
            fix="Choose another folder.",
        )
    return former.windows_done, [_Sum.restore(former.read_group(i)) for i in range(len(former.groups))]


class _Sum:
    """Running sums over the input of one group of layers. Per-channel sums in float64, X^T X in float32."""

    def __init__(self, model: torch.nn.Module, names: tuple[str, ...], settings: CollectSettings) -> None:
        import torch

        features = _features(model.get_submodule(names[0]))
        self._names, self._tokens, self.window = names, 0, 0
        self._sum_abs = torch.zeros(features, dtype=torch.float64)
        self._sum_square = torch.zeros(features, dtype=torch.float64)
        self._max_abs = torch.zeros(features)
        self._hessian = torch.zeros(features, features) if settings.hessians else None
        self._outputs = dict.fromkeys(names, 0.0)
        self._handles: list[Any] = []

    @classmethod
    def restore(cls, stored: InputStatistics) -> _Sum:
        """Go on from stored sums."""
        import torch

        total = cls.__new__(cls)
        total._names, total._tokens, total.window = stored.names, stored.tokens, 0
        total._sum_abs = torch.from_numpy(stored.sum_abs)
        total._sum_square = torch.from_numpy(stored.sum_square)
        total._max_abs = torch.from_numpy(stored.max_abs)
        total._hessian = None if stored.gram is None else torch.from_numpy(stored.gram)
        total._outputs = dict(zip(stored.names, stored.output_max_abs, strict=True))
        total._handles = []
        return total

    def attach(self, model: torch.nn.Module) -> None:
        first = model.get_submodule(self._names[0])
        self._handles = [first.register_forward_pre_hook(self._see_input)]
        for name in self._names:
            self._handles.append(model.get_submodule(name).register_forward_hook(self._see_output(name)))

    def detach(self) -> None:
        for handle in self._handles:
            handle.remove()

    def result(self) -> InputStatistics:
        return InputStatistics(
            names=self._names,
            tokens=self._tokens,
            sum_abs=self._sum_abs.numpy(),
            max_abs=self._max_abs.numpy(),
            sum_square=self._sum_square.numpy(),
            gram=None if self._hessian is None else self._hessian.numpy(),
            output_max_abs=tuple(self._outputs.values()),
        )

    def _see_input(self, _: torch.nn.Module, inputs: tuple[Any, ...]) -> None:
        import torch

        rows = _tensor(inputs[0]).detach().reshape(-1, len(self._max_abs)).float().cpu()
        if not torch.isfinite(rows).all():
            raise not_finite(f"the input of {self._names[0]}", self.window)
        sizes = rows.abs()
        self._tokens += len(rows)
        self._sum_abs += sizes.sum(dim=0, dtype=torch.float64)
        self._sum_square += (rows.double() ** 2).sum(dim=0)
        if len(rows):  # an expert may get none
            self._max_abs = torch.maximum(self._max_abs, sizes.amax(dim=0))
        if self._hessian is not None:
            self._hessian.addmm_(rows.T, rows)

    def _see_output(self, name: str) -> Callable[[torch.nn.Module, tuple[Any, ...], Any], None]:
        def hook(_: torch.nn.Module, inputs: tuple[Any, ...], output: Any) -> None:
            values = _tensor(output[0] if isinstance(output, tuple) else output).detach()
            largest = float(values.abs().max()) if values.numel() else 0.0
            if not np.isfinite(largest):
                raise not_finite(f"the output of {name}", self.window)
            self._outputs[name] = max(self._outputs[name], largest)

        return hook


def _tensor(value: Any) -> torch.Tensor:
    """A tensor, or that of a packed sequence."""
    import torch

    return value.data if isinstance(value, torch.nn.utils.rnn.PackedSequence) else value


def _features(module: Any) -> int:
    return int(getattr(module, "in_features", None) or module.input_size)
