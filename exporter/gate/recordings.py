"""Recordings that the gate makes itself: something like speech, and what is none.

Seeded, so that a verification hears what the export heard. Voices are harmonics shaped by moving resonances, as vowels
are, with hisses and pauses between them: a model that hears takes them for speech, if for no words.
"""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt

Samples = npt.NDArray[np.float32]
# Resonances in Hz of five vowels.
_VOWELS = ((730, 1090, 2440), (270, 2290, 3010), (300, 870, 2240), (530, 1840, 2480), (570, 840, 2410))
_WIDTH = 90.0  # Hz, of a resonance


@dataclass(frozen=True, kw_only=True)
class Recording:
    """Samples, float32 within -1 and 1, under a name."""

    name: str
    samples: Samples


def gate_recordings(rate: int, window: int | None) -> tuple[Recording, ...]:
    """What a model that hears is asked about, at a sampling rate in Hz.

    Args:
        window: samples that the model always reads: one recording then fills it, and one has more. None for a model
            that reads any number.
    """
    longest = (window or 6 * rate) / rate
    recordings = [
        ("voice", voice(rate, min(5.3, longest), seed=1, pitch=110.0)),
        ("high-voice", voice(rate, min(3.1, longest), seed=2, pitch=210.0)),
        ("noise", _noise(rate, min(2.0, longest), 0.1, seed=3)),
        ("silence", np.zeros(int(rate * min(1.0, longest)), np.float32)),
        ("tone", _sweep(rate, min(2.5, longest))),
        ("short", voice(rate, 0.1, seed=4, pitch=140.0)),
        ("whole-window", voice(rate, longest, seed=5, pitch=95.0) * np.float32(0.05)),
    ]
    return tuple(Recording(name=name, samples=samples) for name, samples in recordings)


def cut_alike(recordings: tuple[Recording, ...], count: int) -> tuple[Recording, ...]:
    """The first ones cut to the length of their shortest, as what reads any number of samples wants them in a batch."""
    shortest = min(len(one.samples) for one in recordings[:count])
    cut = [replace(one, samples=one.samples[:shortest]) for one in recordings[:count]]
    return (*cut, *recordings[count:])


def voice(rate: int, seconds: float, *, seed: int, pitch: float) -> Samples:
    """Vowels, hisses and pauses in turn; ``pitch`` in Hz."""
    random = np.random.default_rng(seed)
    total = max(1, int(rate * seconds))
    pieces: list[npt.NDArray[np.float64]] = []
    made = 0
    while made < total:
        length = int(rate * random.uniform(0.06, 0.25))
        kind = random.random()
        if kind < 0.12:
            piece = np.zeros(length)
        elif kind < 0.3:
            piece = np.diff(random.normal(0, 0.05, length + 1))
        else:
            piece = _vowel(rate, length, random, pitch * random.uniform(0.85, 1.2))
        pieces.append(piece)
        made += length
    samples = np.concatenate(pieces)[:total] + random.normal(0, 2e-4, total)
    return np.asarray(0.5 * samples / max(1e-3, float(np.abs(samples).max())), np.float32)


def _vowel(rate: int, length: int, random: np.random.Generator, pitch: float) -> npt.NDArray[np.float64]:
    formants = _VOWELS[int(random.integers(len(_VOWELS)))]
    times = np.arange(length) / rate
    wave = np.zeros(length)
    for harmonic in range(1, int(min(4000, 0.45 * rate) / pitch) + 1):
        frequency = harmonic * pitch
        loudness = sum(1 / (1 + ((frequency - formant) / _WIDTH) ** 2) for formant in formants)
        wave += loudness / np.sqrt(harmonic) * np.sin(2 * np.pi * frequency * times + random.uniform(0, 2 * np.pi))
    return wave * np.hanning(length + 2)[1:-1]


def _noise(rate: int, seconds: float, loudness: float, *, seed: int) -> Samples:
    return np.asarray(np.random.default_rng(seed).normal(0, loudness, int(rate * seconds)), np.float32)


def _sweep(rate: int, seconds: float) -> Samples:
    """From 80 Hz to a fifth of the rate, with the noise of a recording."""
    times = np.arange(int(rate * seconds)) / rate
    tone = 0.4 * np.sin(2 * np.pi * (80 * times + (0.2 * rate - 80) * times**2 / (2 * seconds)))
    return np.asarray(tone + np.random.default_rng(6).normal(0, 1e-3, len(times)), np.float32)
