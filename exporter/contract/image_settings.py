"""How an artifact's images become inputs of its graphs, and their marks in a prompt image tokens: ``images.json``.

Standard library only. The file comes with a folder from anywhere; what is not checked here reaches a runtime.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from jisu.exporter.contract.settings_file import read_settings


@dataclass(frozen=True, kw_only=True)
class ImageSettings:
    """What a runtime has to know of a model's images.

    Attributes:
        preparation: a name in `runtimes.images.ways.PREPARATIONS`.
        settings: of the preparation.
        marks: the rule by which a mark becomes image tokens, see `runtimes.images.marks`.
        mark: the token that stands for an image in a prompt, its text, which is one token.
        image_token: the token whose places are those of image features, an id.
        merge: patches of an edge that become one token, where tokens have positions on three axes; None elsewhere.
        grid_inputs: inputs of the vision graph that follow from an image's grid, with their settings.
        types: where neighbouring tokens see each other, the numbers of the two kinds of tokens of a prompt, ``image``
            and ``text``: 0 for those that see only what comes before them; None where all do.
        layout: what surrounds the text of a prompt with images, where a model has such a rule: ``before`` it, behind
            the last ``mark``, at the ``end``.
    """

    preparation: str
    settings: dict[str, Any]
    marks: dict[str, Any]
    mark: str
    image_token: int
    merge: int | None = None
    grid_inputs: dict[str, dict[str, Any]] = field(default_factory=dict)
    types: dict[str, int] | None = None
    layout: dict[str, str] | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self), indent=2, ensure_ascii=False, sort_keys=True) + "\n"


def read_image_settings(path: Path) -> ImageSettings:
    """Read what an export wrote; raises InputError for anything else."""
    return read_settings(path, ImageSettings, _problems, says="how images are prepared")


def _problems(settings: ImageSettings) -> list[str]:
    kinds: Mapping[str, type | tuple[type, ...]] = {
        "preparation": str,
        "settings": dict,
        "marks": dict,
        "mark": str,
        "image_token": int,
        "merge": (int, type(None)),
        "grid_inputs": dict,
        "types": (dict, type(None)),
        "layout": (dict, type(None)),
    }
    problems = [
        f"{name} is {getattr(settings, name)!r}"
        for name, kind in kinds.items()
        if not isinstance(getattr(settings, name), kind) or isinstance(getattr(settings, name), bool)
    ]
    held: tuple[tuple[str, tuple[str, ...], type], ...] = (
        ("types", ("image", "text"), int),
        ("layout", ("before", "mark", "end"), str),
    )
    for name, keys, kind in held:
        value = getattr(settings, name)
        if isinstance(value, dict) and (
            set(value) != set(keys) or not all(type(part) is kind for part in value.values())
        ):
            problems.append(f"{name} is {value!r}")
    return problems
