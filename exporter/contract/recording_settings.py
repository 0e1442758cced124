"""How an artifact's recordings become tokens of a prompt: ``recordings.json``, beside ``audio.json``.

Standard library only. The file comes with a folder from anywhere; what is not checked here reaches a runtime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

from jisu.exporter.contract.settings_file import read_settings

# Types of a mask of frames.
MASK_TYPES = ("bool", "int32", "int64")


@dataclass(frozen=True, kw_only=True)
class RecordingSettings:
    """What a runtime has to know of the recordings in prompts, besides how they are heard.

    Attributes:
        preparation: how samples are cut and filled up, a name in `runtimes.speech.cuts.CUTS`.
        frames: how many frames of a cut are of the recording, a name in `runtimes.speech.cuts.FRAMES`.
        mask: the input that tells these frames, ones and zeros of ``mask_type``; None where there is none.
        marks: texts ``before`` and ``after`` the tokens of a recording, and of its ``token``.
        mark: the token that stands for a recording in a prompt, its text, which is one token.
        audio_token: the token whose places are those of features, an id.
        longest: samples that are read at most; None for any number.
        most: recordings that one prompt may have; None for any number.
        multiple: frames are filled up with zeros to a multiple of it; 1 for as many as there are.
        separate: whether each window is heard for itself, so that one after the other takes the memory of one.
    """

    preparation: str
    frames: str
    mask: str | None
    mask_type: str
    marks: dict[str, str]
    mark: str
    audio_token: int
    longest: int | None
    most: int | None = None
    multiple: int = 1
    separate: bool = False

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def read_recording_settings(path: Path) -> RecordingSettings:
    """Read what an export wrote; raises InputError for anything else."""
    return read_settings(path, RecordingSettings, _problems, says="how recordings become tokens")


def _problems(settings: RecordingSettings) -> list[str]:
    kinds: Mapping[str, tuple[type, ...]] = {
        "preparation": (str,),
        "frames": (str,),
        "mask": (str, type(None)),
        "mask_type": (str,),
        "marks": (dict,),
        "mark": (str,),
        "audio_token": (int,),
        "longest": (int, type(None)),
        "most": (int, type(None)),
        "multiple": (int,),
        "separate": (bool,),
    }
    problems = [
        f"{name} is {getattr(settings, name)!r}"
        for name, kind in kinds.items()
        if type(getattr(settings, name)) not in kind
    ]
    if settings.mask_type not in MASK_TYPES:
        problems.append(f"mask_type is {settings.mask_type!r}")
    if isinstance(settings.marks, dict) and (
        set(settings.marks) != {"before", "token", "after"}
        or not all(isinstance(text, str) for text in settings.marks.values())
    ):
        problems.append(f"marks is {settings.marks!r}")
    for name in ("longest", "most", "multiple"):
        value = getattr(settings, name)
        if isinstance(value, int) and value < 1:
            problems.append(f"{name} is {value!r}")
    return problems
