"""Reads what a LoRA adapter of PEFT says of itself, and refuses what could not be merged exactly.

Names and meanings are those of PEFT's `LoraConfig` (0.17 to 0.19).
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.jsonfile import read_json

ADAPTER_CONFIG = "adapter_config.json"
# Settings under which the stored matrices are not what is added to the weights, by what they would have to be.
_UNMERGEABLE: dict[str, tuple[Any, ...]] = {
    "alora_invocation_tokens": (None, []),
    "arrow_config": (None,),
    "kasa_config": (None,),
    "layer_replication": (None, []),
    "target_parameters": (None, []),
    "trainable_token_indices": (None, [], {}),
    "use_bdlora": (None, False),
    "use_qalora": (None, False),
}
# Ways to begin training that change the base model's weights, so that the matrices belong to other ones.
_OTHER_BASE = ("pissa", "olora", "corda", "loftq", "lora_ga")


@dataclass(frozen=True, kw_only=True)
class LoraSettings:
    """How the matrices of a LoRA adapter are scaled.

    Attributes:
        base: what the adapter says it was trained on; None where it does not.
        rank, alpha: r and lora_alpha, for modules that no pattern names.
        ranks, alphas: patterns of module names with their own.
        root: divide by the root of the rank (rank-stabilized, Kalajdzievski 2023).
        dora: directions and magnitudes apart (Liu et al. 2024).
        ties: what changes a tied weight counts for both of its uses.
        saved: names of modules that were trained whole.
    """

    base: str | None
    rank: int
    alpha: float
    ranks: Mapping[str, int] = field(default_factory=dict)
    alphas: Mapping[str, float] = field(default_factory=dict)
    root: bool = False
    dora: bool = False
    ties: bool = False
    saved: tuple[str, ...] = ()

    def saves(self, module: str) -> bool:
        """Whether a module was trained whole, apart from what it is tied to."""
        return any(module == name or module.endswith(f".{name}") for name in self.saved)

    def rank_of(self, module: str) -> int:
        return int(_of_pattern(self.ranks, module, self.rank))

    def scale_of(self, module: str) -> float:
        """What the product of a module's matrices is multiplied by: alpha / r, or alpha / sqrt(r)."""
        rank, alpha = self.rank_of(module), _of_pattern(self.alphas, module, self.alpha)
        return float(alpha) / (math.sqrt(rank) if self.root else rank)


def is_adapter(folder: Path) -> bool:
    """Whether a folder holds an adapter and no model."""
    return (folder / ADAPTER_CONFIG).is_file() and not (folder / "config.json").is_file()


def read_lora_settings(folder: Path) -> LoraSettings:
    """The settings of the adapter in a folder.

    Raises:
        InputError: no adapter, one of another kind than LoRA, or one that cannot be merged into the base's weights.
    """
    path = folder / ADAPTER_CONFIG
    if not path.is_file():
        raise InputError(
            f"{folder} is not an adapter",
            received=f"a path without {ADAPTER_CONFIG}",
            allowed=f"a folder of PEFT with {ADAPTER_CONFIG} and adapter_model.safetensors",
            fix="Check --adapter.",
        )
    stored = read_json(path)
    kind = stored.get("peft_type")
    if kind != "LORA":
        raise InputError(
            f"The adapter {folder} is of a kind that is not merged",
            received=f"peft_type {kind!r}",
            allowed="LORA, DoRA and rank-stabilized LoRA included",
            fix="Merge it with PEFT (merge_and_unload) where it can be, and export the merged model.",
        )
    refused = [f"{name} {stored[name]!r}" for name, off in _UNMERGEABLE.items() if stored.get(name) not in (None, *off)]
    begun = stored.get("init_lora_weights")
    if isinstance(begun, str) and begun.lower().startswith(_OTHER_BASE):
        refused.append(f"init_lora_weights {begun!r}, which changes the base model's weights")
    if refused:
        raise InputError(
            f"The adapter {folder} cannot be merged by its matrices alone",
            received="; ".join(refused),
            allowed="matrices that are added to the weights of the base model as it is stored",
            fix="Merge it with PEFT (merge_and_unload), and export the merged model.",
        )
    try:
        return LoraSettings(
            base=_name(stored.get("base_model_name_or_path")),
            rank=_positive(stored["r"]),
            alpha=float(stored["lora_alpha"]),
            ranks={str(key): _positive(value) for key, value in (stored.get("rank_pattern") or {}).items()},
            alphas={str(key): float(value) for key, value in (stored.get("alpha_pattern") or {}).items()},
            root=bool(stored.get("use_rslora")),
            dora=bool(stored.get("use_dora")),
            ties=bool(stored.get("ensure_weight_tying")),
            saved=tuple(str(name) for name in stored.get("modules_to_save") or ()),
        )
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise InputError(
            f"{path} cannot be understood",
            received=f"{type(error).__name__}: {error}",
            allowed="r, lora_alpha, the patterns and the base model's name of PEFT's LoraConfig",
            fix="Save the adapter again.",
        ) from error


def _of_pattern(patterns: Mapping[str, Any], module: str, default: Any) -> Any:
    """What the first pattern says that matches a module's whole name, or its end behind a dot."""
    for pattern, value in patterns.items():
        if re.match(rf"(.*\.)?({pattern})$", module):
            return value
    return default


def _name(value: Any) -> str | None:
    if value is not None and not isinstance(value, str):
        raise ValueError(f"base_model_name_or_path {value!r}")
    return value or None


def _positive(value: Any) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise ValueError(f"a rank of {value!r}")
    return value
