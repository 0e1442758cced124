from __future__ import annotations

import numpy as np

from jisu.exporter.gate.recordings import cut_alike, gate_recordings, voice


def test_the_same_recordings_every_time() -> None:
    first, second = gate_recordings(16000, None), gate_recordings(16000, None)
    assert all((one.samples == other.samples).all() for one, other in zip(first, second, strict=True))
    assert len({one.name for one in first}) == len(first)


def test_samples_are_of_sound() -> None:
    for recording in gate_recordings(8000, 16000):
        assert recording.samples.dtype == np.float32
        assert 0 < len(recording.samples) <= 16000 and np.abs(recording.samples).max() <= 1


def test_a_voice_has_its_energy_where_vowels_have_it() -> None:
    samples = voice(16000, 4.0, seed=1, pitch=120.0)
    power = np.abs(np.fft.rfft(samples)) ** 2
    frequencies = np.fft.rfftfreq(len(samples), 1 / 16000)
    assert power[(frequencies > 150) & (frequencies < 3500)].sum() > 0.8 * power.sum()


def test_recordings_of_a_batch_are_cut_to_one_length() -> None:
    made = gate_recordings(8000, None)
    cut = cut_alike(made, 3)
    assert [len(one.samples) for one in cut[:3]] == [16000] * 3
    assert [one.name for one in cut] == [one.name for one in made]
    assert all(np.array_equal(one.samples, other.samples) for one, other in zip(cut[3:], made[3:], strict=True))
