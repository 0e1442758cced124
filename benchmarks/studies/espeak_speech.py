"""Speech that a synthesizer, espeak-ng, makes of a text: the same samples every time, with a voice of any language.

The library is found in the package `espeakng_loader`, unpacked or installed, or as `libespeak-ng` of the system.
"""

from __future__ import annotations

import ctypes
from pathlib import Path

import numpy as np
import numpy.typing as npt

_SYNCHRONOUS, _UTF8 = 2, 1
_CALLBACK = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.POINTER(ctypes.c_short), ctypes.c_int, ctypes.c_void_p)
_RATE, _PITCH = 1, 3  # numbers of parameters


class Espeak:
    """The synthesizer; one at a time in a process.

    Args:
        package: folder of `espeakng_loader` with the library and its data; the system's library when None.
    """

    def __init__(self, package: Path | None = None) -> None:
        name = "libespeak-ng.so.1" if package is None else str(package / "libespeak-ng.so")
        self._library = ctypes.CDLL(name)
        data = None if package is None else str(package).encode()
        self.rate = int(self._library.espeak_Initialize(_SYNCHRONOUS, 0, data, 0))
        if self.rate <= 0:
            raise RuntimeError("espeak-ng finds no data")
        self._pieces: list[npt.NDArray[np.int16]] = []
        self._callback = _CALLBACK(self._take)
        self._library.espeak_SetSynthCallback(self._callback)

    def say(
        self, text: str, *, voice: str = "en-us", words_per_minute: int = 150, pitch: int = 50
    ) -> npt.NDArray[np.float32]:
        """Samples of a text, float32 [samples] within -1 and 1, at ``self.rate`` per second."""
        self._pieces = []
        if self._library.espeak_SetVoiceByName(voice.encode()) != 0:
            raise ValueError(f"espeak-ng has no voice {voice!r}")
        self._library.espeak_SetParameter(_RATE, words_per_minute, 0)
        self._library.espeak_SetParameter(_PITCH, pitch, 0)
        content = text.encode()
        self._library.espeak_Synth(content, len(content) + 1, 0, 0, 0, _UTF8, None, None)
        self._library.espeak_Synchronize()
        joined = np.concatenate(self._pieces) if self._pieces else np.zeros(0, np.int16)
        return (joined / 32768).astype(np.float32)

    def _take(self, samples: object, count: int, events: object) -> int:
        if samples and count > 0:
            self._pieces.append(np.ctypeslib.as_array(samples, shape=(count,)).copy())
        return 0


def resampled(audio: npt.NDArray[np.float32], rate: int, new_rate: int) -> npt.NDArray[np.float32]:
    """The same at another rate."""
    import soxr

    return np.asarray(soxr.resample(audio, rate, new_rate), np.float32)
