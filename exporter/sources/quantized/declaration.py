"""What a checkpoint's own files say about how its weights are quantized: a method and its settings.

The tensors decide what is read; a declaration fills in what they leave open (bits, group sizes, conventions for zero
points) and is held against them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.jsonfile import read_json

# Where tools put it that do not write into config.json, and the method that each file stands for.
_FILES = {"hf_quant_config.json": "modelopt", "quantize_config.json": "gptq", "quant_config.json": "awq"}
# A key that only one method's settings have, for settings that name none.
_TELLING_KEYS = {
    "load_in_4bit": "bitsandbytes",
    "load_in_8bit": "bitsandbytes",
    "config_groups": "compressed-tensors",
    "quant_algo": "modelopt",
    "q_group_size": "awq",
    "weight_block_size": "fp8",
}


@dataclass(frozen=True, kw_only=True)
class Declaration:
    """How a checkpoint says it is quantized.

    Attributes:
        method: in lower case, as transformers spells it; empty where nothing says it.
        settings: of the method, as they are written.
        origin: file and key that say so; empty where nothing does.
    """

    method: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)
    origin: str = ""

    def setting(self, *names: str) -> Any:
        """The first of these settings that is there; None when there is none."""
        return next((self.settings[name] for name in names if self.settings.get(name) is not None), None)

    def count(self, *names: str) -> int | None:
        """A setting that is a whole number.

        Raises:
            InputError: it is something else.
        """
        value = self.setting(*names)
        if value is None or (isinstance(value, int) and not isinstance(value, bool)):
            return value
        raise InputError(
            f"{self.origin} has no usable {names[0]}",
            received=value,
            allowed="a whole number",
            fix="Download or convert the checkpoint again.",
        )


def read_declaration(folder: Path) -> Declaration:
    """The first declaration among a folder's files; an empty one when it has none.

    Raises:
        InputError: one of the files cannot be read, or a declaration is no JSON object.
    """
    for origin, settings, method in _stated(folder):
        if settings is None:
            continue
        if not isinstance(settings, dict):
            raise InputError(
                f"{origin} does not describe a quantization",
                received=type(settings).__name__,
                allowed="a JSON object",
                fix="Download or convert the checkpoint again.",
            )
        named = settings.get("quant_method") or settings.get("quantization_method") or method
        if not named:
            named = next((by_key for key, by_key in _TELLING_KEYS.items() if key in settings), "")
        return Declaration(method=str(named).lower(), settings=settings, origin=origin)
    return Declaration()


def _stated(folder: Path) -> Iterator[tuple[str, Any, str]]:
    """(file and key, settings, the method it stands for), the most authoritative first."""
    path = folder / "config.json"
    config = read_json(path) if path.is_file() else {}
    text = config.get("text_config")
    for part, prefix in ((config, ""), (text if isinstance(text, dict) else {}, "text_config.")):
        yield f"{prefix}quantization_config in config.json", part.get("quantization_config"), ""
        yield f"{prefix}compression_config in config.json", part.get("compression_config"), "compressed-tensors"
        mlx = part.get("quantization")
        yield f"{prefix}quantization in config.json", mlx if isinstance(mlx, dict) else None, "mlx"
    for name, method in _FILES.items():
        if (folder / name).is_file():
            settings = read_json(folder / name)
            inner = settings.get("quantization")
            yield name, inner if method == "modelopt" and isinstance(inner, dict) else settings, method


def forget_quantization(config: Any) -> None:
    """Take the declaration out of a configuration of transformers, which would quantize what it loads by it."""
    for part in (config, config.get_text_config()):
        if getattr(part, "quantization_config", None) is not None:
            del part.quantization_config
