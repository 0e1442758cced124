from __future__ import annotations

import numpy as np

from jisu.benchmarks.studies.espeak_speech import resampled


def test_another_rate_keeps_the_sound() -> None:
    tone = np.sin(2 * np.pi * 300 * np.arange(22050) / 22050).astype(np.float32)
    other = resampled(tone, 22050, 16000)
    assert len(other) == 16000
    assert np.abs(other - np.sin(2 * np.pi * 300 * np.arange(16000) / 16000))[100:-100].max() < 1e-2
