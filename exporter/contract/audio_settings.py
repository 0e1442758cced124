"""What a runtime has to know of a model that hears, besides its graphs: ``audio.json`` of an artifact.

Standard library only.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from jisu.exporter.contract.artifact import AUDIO_SETTINGS
from jisu.exporter.contract.errors import InputError
from jisu.exporter.contract.placeholders import refuse_placeholder

Writes = Literal["tokens", "frames"]
_MOST_SAMPLES = 1 << 31


@dataclass(frozen=True, kw_only=True)
class AudioSettings:
    """How sound becomes what a model reads, and what it says becomes a text.

    ``sampling_rate`` is in samples per second. ``input_name`` names what the graph reads; ``dims`` are its dims behind
    the batch, one of them None where it grows with the recording. ``window`` counts the samples that the model always
    reads, None where it reads any number; ``shortest`` those
    that a shorter recording is filled up to. ``hop`` is the samples from one of its
    frames to the next.

    A model that ``writes`` tokens has ``languages`` and ``tasks``, each name with the token that asks for it;
    ``no_timestamps`` asks for no times, the tokens behind it are times, ``seconds_per_time`` apart, and an answer
    begins with one of the first ``first_times`` at most (None for any). ``prefix`` is said first when nobody asks for a
    language or a task. One that writes frames has a text for each of its ``labels``, of which ``blank`` is none and
    ``space`` stands between words.
    """

    sampling_rate: int
    input_name: str
    dims: tuple[int | None, ...]
    window: int | None
    shortest: int
    hop: int
    writes: Writes
    languages: dict[str, int] = field(default_factory=dict)
    tasks: dict[str, int] = field(default_factory=dict)
    prefix: tuple[int, ...] = ()
    no_timestamps: int | None = None
    seconds_per_time: float | None = None
    first_times: int | None = None
    labels: tuple[str, ...] = ()
    blank: int | None = None
    space: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, sort_keys=True) + "\n"

    @property
    def first_time(self) -> int | None:
        """The token of time 0; None where there are no times."""
        return None if self.no_timestamps is None else self.no_timestamps + 1


def read_audio_settings(folder: Path) -> AudioSettings:
    """Read the file of an artifact.

    Raises:
        InputError: it is missing, or says something else than what an export writes.
    """
    path = folder / AUDIO_SETTINGS
    refuse_placeholder(path)
    try:
        stored = json.loads(path.read_text(encoding="utf-8"))
        return _checked(stored)
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise InputError(
            f"{path} does not say how this model hears",
            received=f"{type(error).__name__}: {error}",
            allowed="the file as the export wrote it",
            fix="Export the model again.",
        ) from error


def _checked(stored: Mapping[str, Any]) -> AudioSettings:
    """The settings of a JSON object; raises ValueError, TypeError or KeyError."""
    lists = {name: tuple(stored[name]) for name in ("dims", "prefix", "labels")}
    settings = AudioSettings(**{**stored, **lists})
    counts = (settings.sampling_rate, settings.shortest, settings.hop, settings.window or 1)
    if any(isinstance(one, bool) or not isinstance(one, int) or not 0 < one <= _MOST_SAMPLES for one in counts):
        raise ValueError(f"rates and lengths must be counts, not {counts}")
    if settings.writes not in ("tokens", "frames"):
        raise ValueError(f"writes is {settings.writes!r} instead of tokens or frames")
    growing = [dim for dim in settings.dims if dim is None]
    if len(growing) > 1 or any(dim is not None and (not isinstance(dim, int) or dim < 1) for dim in settings.dims):
        raise ValueError(f"dims must be counts, and null at most once, not {settings.dims}")
    names = {**settings.languages, **settings.tasks}
    if not all(isinstance(name, str) and isinstance(token, int) and token >= 0 for name, token in names.items()):
        raise ValueError("languages and tasks must name token ids")
    return settings
