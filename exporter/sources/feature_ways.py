"""What a feature extractor does, as modules of torch: found among the known ways by comparing with it.

An extractor is a program, and says of itself only numbers: sizes, filters, flags. Of the few ways in which such numbers
are meant, the one is taken that gives what the extractor gives; where none does, the model is refused.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn

from jisu.exporter.contract.errors import InputError

if TYPE_CHECKING:
    from jisu.exporter.sources.audio import AudioSource

# How far features may be from the extractor's, as a share of their spread: sums in float32 in another order. Another
# way is off by more than a tenth.
CLOSE = 2e-3
# Of the filter banks that speech recognition has used since the toolkit Kaldi: in float32, the smallest step above 1.
_SMALLEST = 1.192092955078125e-07
_EMPHASIS = 0.97
_INT16 = float(1 << 15)


class LogMel(nn.Module):
    """Logarithms of the energies in bands of frequency, frame by frame.

    Args:
        kernels: float64 [2 * bins, taps], what makes the real and imaginary parts of a frame's spectrum.
        filters: float64 [bins, bands].
        hop: samples between frames.
        centered: frames are centered on their samples, with the recording mirrored at its ends; the last is dropped.
        gain: of the samples.
        floor: of the energies.
    """

    def __init__(
        self,
        kernels: npt.NDArray[np.float64],
        filters: npt.NDArray[np.float64],
        *,
        hop: int,
        centered: bool,
        gain: float,
        floor: float,
    ) -> None:
        super().__init__()
        self.register_buffer("kernels", torch.from_numpy(kernels * gain).to(torch.float32)[:, None, :])
        self.register_buffer("filters", torch.from_numpy(filters).to(torch.float32))
        self.hop, self.centered, self.floor = hop, centered, floor

    def forward(self, audio: Tensor) -> Tensor:
        """float32 [B, samples] -> natural logarithms [B, bands, frames]."""
        kernels: Any = self.kernels
        filters: Any = self.filters
        signal = audio[:, None, :]
        if self.centered:
            half = kernels.shape[-1] // 2
            signal = nn.functional.pad(signal, (half, half), mode="reflect")
        spectrum = nn.functional.conv1d(signal, kernels, stride=self.hop)
        if self.centered:
            spectrum = spectrum[:, :, :-1]
        bins = kernels.shape[0] // 2
        power = spectrum[:, :bins].square() + spectrum[:, bins:].square()
        energies = torch.matmul(filters.T, power)
        return energies.clamp(min=self.floor).log()


class BelowPeak(nn.Module):
    """Decades of energy down to eight below the loudest, moved and scaled to about one."""

    def __init__(self, bands: LogMel) -> None:
        super().__init__()
        self.bands = bands

    def forward(self, audio: Tensor) -> Tensor:
        """float32 [B, samples] -> [B, bands, frames]."""
        decades = self.bands(audio) / float(np.log(10.0))
        peak = decades.amax(dim=(1, 2), keepdim=True)
        return (torch.maximum(decades, peak - 8.0) + 4.0) / 4.0


class Normalized(nn.Module):
    """Frames first, each band with the mean and the deviation of the recording taken out, where that is asked for."""

    def __init__(self, bands: LogMel, *, means: bool, deviations: bool) -> None:
        super().__init__()
        self.bands, self.means, self.deviations = bands, means, deviations

    def forward(self, audio: Tensor) -> Tensor:
        """float32 [B, samples] -> [B, frames, bands]."""
        frames: Tensor = self.bands(audio).transpose(1, 2)
        if self.means:
            frames = frames - frames.mean(dim=1, keepdim=True)
        if self.deviations:
            centered = frames - frames.mean(dim=1, keepdim=True)
            frames = frames / centered.square().mean(dim=1, keepdim=True).sqrt().clamp(min=1e-10)
        return frames


class Waveform(nn.Module):
    """The samples themselves, or with mean 0 and variance 1."""

    def __init__(self, *, normalizes: bool) -> None:
        super().__init__()
        self.normalizes = normalizes

    def forward(self, audio: Tensor) -> Tensor:
        """float32 [B, samples] -> the same."""
        if not self.normalizes:
            return audio.clone()
        centered = audio - audio.mean(dim=1, keepdim=True)
        return centered / (centered.square().mean(dim=1, keepdim=True) + 1e-7).sqrt()


def feature_module(audio: AudioSource) -> nn.Module:
    """What does as the extractor does, on float32 [B, samples]; raises InputError where nothing known does."""
    signals = list(_signals(audio.settings.sampling_rate, audio.settings.window))
    truths = [audio.features(signal) for signal in signals]
    spread = max(float(np.std(np.concatenate([truth.ravel() for truth in truths]))), 1e-6)
    best = np.inf
    for make in (_below_peak, _normalized, _waveform):
        module = make(audio.extractor)
        if module is None:
            continue
        with torch.no_grad():
            made = [module(torch.from_numpy(signal)[None]).numpy() for signal in signals]
        if any(one.shape != truth.shape for one, truth in zip(made, truths, strict=True)):
            continue
        error = max(float(np.abs(one - truth).max()) for one, truth in zip(made, truths, strict=True)) / spread
        if error <= CLOSE:
            return module
        best = min(best, error)
    raise InputError(
        f"What {type(audio.extractor).__name__} makes of sound cannot be exported",
        received="features that differ from those of every known way"
        + (f", at best by {best:.2g} of their spread" if np.isfinite(best) else " in their shape"),
        allowed="a spectrogram on the mel scale, below its peak or normalized, or the samples themselves",
        fix="Choose a model whose features are of one of these kinds.",
    )


def features_of(audio: AudioSource) -> Callable[[npt.NDArray[np.float32]], npt.NDArray[np.float32]]:
    """What makes features of blocks of samples, float32 [blocks, samples] -> [blocks, ...], as the graph will.

    Raises:
        InputError: no known way gives what the extractor gives.
    """
    module = feature_module(audio)

    def made(blocks: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
        with torch.inference_mode():
            features: npt.NDArray[np.float32] = module(torch.from_numpy(blocks)).numpy()
        return features

    return made


def _below_peak(extractor: Any) -> nn.Module | None:
    taps, hop = getattr(extractor, "n_fft", None), getattr(extractor, "hop_length", None)
    filters = getattr(extractor, "mel_filters", None)
    if not isinstance(taps, int) or not isinstance(hop, int) or not isinstance(filters, np.ndarray):
        return None
    if filters.shape[0] != taps // 2 + 1:
        return None
    window = 0.5 - 0.5 * np.cos(2 * np.pi * np.arange(taps) / taps)
    kernels = _fourier(taps, taps) * window
    return BelowPeak(LogMel(kernels, filters.astype(np.float64), hop=hop, centered=True, gain=1.0, floor=1e-10))


def _normalized(extractor: Any) -> nn.Module | None:
    """Frames of 25 ms, without their mean and with high frequencies raised, as Kaldi's filter banks are made."""
    window, filters = getattr(extractor, "window", None), getattr(extractor, "mel_filters", None)
    if not isinstance(window, np.ndarray) or not isinstance(filters, np.ndarray):
        return None
    taps, size = len(window), 2 * (filters.shape[0] - 1)
    if size < taps:
        return None
    raised = np.eye(taps) - _EMPHASIS * np.eye(taps, k=-1)
    raised[0, 0] -= _EMPHASIS
    steady = np.eye(taps) - 1 / taps
    kernels = (_fourier(size, taps) * window) @ raised @ steady
    hop = int(getattr(extractor, "sampling_rate", 0) * 0.01)
    bands = LogMel(kernels, filters.astype(np.float64), hop=hop, centered=False, gain=_INT16, floor=_SMALLEST)
    normalizes = bool(getattr(extractor, "do_ceptral_normalize", False))
    return Normalized(
        bands,
        means=normalizes and bool(getattr(extractor, "normalize_means", True)),
        deviations=normalizes and bool(getattr(extractor, "normalize_vars", True)),
    )


def _waveform(extractor: Any) -> nn.Module | None:
    return Waveform(normalizes=bool(getattr(extractor, "do_normalize", False)))


def _fourier(size: int, taps: int) -> npt.NDArray[np.float64]:
    """float64 [2 * bins, taps]: cosines, then sines, of a transform over ``size`` samples, ``taps`` of them read."""
    angles = 2 * np.pi * np.outer(np.arange(size // 2 + 1), np.arange(taps)) / size
    return np.concatenate([np.cos(angles), -np.sin(angles)])


def _signals(rate: int, window: int | None) -> Iterator[npt.NDArray[np.float32]]:
    """Noise, a rising tone, and a loud click in silence; of the window's length where there is one."""
    samples = window or int(rate * 1.37)
    random = np.random.default_rng(1)
    times = np.arange(samples) / rate
    yield np.asarray(random.normal(0, 0.1, samples), np.float32)
    tone = 0.3 * np.sin(2 * np.pi * (100 + 900 * times / times[-1]) * times)
    # Recordings have noise; without any, bands next to the tone would hold what float32 loses, and nothing else.
    yield np.asarray(tone + random.normal(0, 1e-3, samples), np.float32)
    click = np.asarray(random.normal(0, 1e-4, samples), np.float32)
    click[samples // 3 : samples // 3 + rate // 100] += 0.9
    yield click
