"""Rotary positions as a GGUF file states them: fields of a configuration, and the frequencies to compare a model with.

llama.cpp turns pairs of the first R values of a head by position x base^(-2i/R), i < R/2; linear scaling divides all of
them by a factor, YaRN (Peng et al. 2023, https://arxiv.org/abs/2309.00071) those of long waves, and a tensor of the
file may hold one divisor for each.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.gguf.weights import read_tensor

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from jisu.exporter.sources.gguf.header import GgufHeader

_BASE = 10000.0  # llama.cpp's, where a file has none
KEYS = (
    "rope.freq_base",
    "rope.freq_base_swa",
    "rope.dimension_count",
    "rope.dimension_count_swa",
    "rope.dimension_sections",
    "rope.scale_linear",
    "rope.scaling.type",
    "rope.scaling.factor",
    "rope.scaling.original_context_length",
    "rope.scaling.attn_factor",
    "rope.scaling.yarn_ext_factor",
    "rope.scaling.yarn_attn_factor",
    "rope.scaling.yarn_beta_fast",
    "rope.scaling.yarn_beta_slow",
)
# Divisors for short and for long texts (LongRoPE, Ding et al. 2024, https://arxiv.org/abs/2402.13753).
LONG_FACTORS, SHORT_FACTORS = "rope_factors_long.weight", "rope_factors_short.weight"
_LONGROPE = "rope.scaling.attn_factor", "rope.scaling.type", "rope.scaling.original_context_length"
_NO_ROTARY = "the model class has no rotary positions"


def rotary_fields(
    stated: Mapping[str, Any], *, head_size: int, config_class: Any
) -> tuple[dict[str, Any], list[str], dict[str, str]]:
    """Fields of the configuration, the keys that they hold, and the keys that have no place, each with the reason.

    Args:
        stated: the file's keys without the architecture's name.
        head_size: values of a query or key.
        config_class: of transformers.
    """
    import dataclasses

    present = [key for key in KEYS if key in stated]
    declared = {field.name for field in dataclasses.fields(config_class)}
    if "rope_parameters" not in declared or not head_size:
        wrong = {key: _NO_ROTARY for key in present if not _is_off(key, stated[key])}
        return {}, [key for key in present if key not in wrong], wrong
    refused = {key: why for key in present if (why := _refusal(key, stated)) is not None}
    whole = _scaled(stated)
    whole["rope_theta"] = float(stated.get("rope.freq_base", _BASE))
    size = stated.get("rope.dimension_count", head_size)
    if not 0 < size <= head_size or size % 2:
        refused["rope.dimension_count"] = f"{size} of {head_size} values of a head"
        size = head_size
    whole["partial_rotary_factor"] = _fraction(size, head_size)
    sections = stated.get("rope.dimension_sections")
    if isinstance(sections, tuple) and any(sections):
        whole |= {"mrope_section": [one for one in sections if one], "mrope_interleaved": True}
        if not config_class.model_type.startswith("qwen3_5"):
            refused["rope.dimension_sections"] = "the model class has one kind of position"
    if config_class.model_type == "gpt_oss" and whole["rope_type"] == "yarn":
        whole["truncate"] = False  # its own YaRN does not round the bounds of the ramp
    fields: dict[str, Any] = {}
    local_base = float(stated.get("rope.freq_base_swa", _BASE))
    if isinstance(config_class.default_theta, dict):
        local = {"rope_type": "default", "rope_theta": local_base}
        fields["rope_parameters"] = {"full_attention": whole, "sliding_attention": local}
    else:
        fields["rope_parameters"] = whole
        if "rope.freq_base_swa" in stated and local_base != whole["rope_theta"]:
            refused["rope.freq_base_swa"] = "the model class turns all layers alike"
    local_size = stated.get("rope.dimension_count_swa", size)
    if local_size != size:
        refused["rope.dimension_count_swa"] = "the model class turns all layers alike"
    return fields, [key for key in present if key not in refused], refused


def longrope_fields(header: GgufHeader, stated: Mapping[str, Any]) -> tuple[dict[str, Any], tuple[str, ...]]:
    """Rotary parameters of a model with divisors for short and long texts, and the keys that they hold; or none.

    Beyond ``original_context_length`` positions the long divisors are used, in transformers as in llama.cpp.
    """
    stored = {tensor.name: tensor for tensor in header.tensors if tensor.name in (LONG_FACTORS, SHORT_FACTORS)}
    if len(stored) != 2:
        return {}, ()
    original = stated.get("rope.scaling.original_context_length", stated.get("context_length", 0))
    return {
        "rope_type": "longrope",
        "short_factor": [float(one) for one in read_tensor(stored[SHORT_FACTORS])],
        "long_factor": [float(one) for one in read_tensor(stored[LONG_FACTORS])],
        "factor": stated.get("context_length", 0) / max(original, 1),
        "attention_factor": float(stated.get("rope.scaling.attn_factor", 1.0)),
        "original_max_position_embeddings": original,
    }, _LONGROPE


def check_rotary(empty: Any, header: GgufHeader) -> None:
    """Compare the frequencies that a model turns its positions by with those that the file states.

    Args:
        empty: the model on the meta device.
        header: of the file.

    Raises:
        InputError: they differ.
    """
    import numpy as np

    if header.architecture == "gemma4" or any(one.name == LONG_FACTORS for one in header.tensors):
        return  # frequencies that are put together of a tensor of the file
    prefix = f"{header.architecture}."
    stated = {key.removeprefix(prefix): value for key, value in header.fields.items() if key.startswith(prefix)}
    for name, local, actual in _tables(empty):
        size = stated.get("rope.dimension_count", 2 * len(actual))
        expected = _frequencies(stated, size, local=local)
        # What YaRN makes of its arguments is transformers' own formula.
        fits = len(actual) * 2 == size
        if not (fits and (_scaling(stated)[0] == "yarn" or np.allclose(actual, expected, rtol=1e-4, atol=0))):
            raise InputError(
                f"{header.path} states rotary positions that its model class cannot turn by",
                received=f"{name} with {len(actual)} frequencies from {actual[0]:g} to {actual[-1]:g}",
                allowed=f"{size // 2} frequencies from {expected[0]:g} to {expected[-1]:g}",
                fix="Use the model's original Hugging Face folder instead.",
            )


def _tables(empty: Any) -> Iterator[tuple[str, bool, npt.NDArray[np.float32]]]:
    """Every table of frequencies of a model: its name, whether it is of layers with a window, and its values.

    Scaled frequencies are transformers' own for all classes; the unscaled ones tell how many values a class turns.
    """
    import torch

    for place, module in empty.named_modules():
        names = [name for name, _ in module.named_buffers(recurse=False) if name.endswith("inv_freq")]
        if not names or not hasattr(module, "config"):
            continue
        with torch.device("cpu"):
            computed = dict(type(module)(module.config).named_buffers())
            unscaled = getattr(module, "compute_default_rope_parameters", None)
            own = None if unscaled is None else _unscaled(unscaled, module.config)
        for name in names:
            if "original" not in name:
                values = computed[name].float().numpy()
                yield f"{place}.{name}", "sliding" in name, values if own is None or len(own) == len(values) else own


def _unscaled(compute: Any, config: Any) -> npt.NDArray[np.float32] | None:
    """What a class turns by when nothing is scaled; None where that depends on the layer."""
    try:
        values: npt.NDArray[np.float32] = compute(config)[0].float().numpy()
    except (KeyError, TypeError):
        return None
    return values


def _frequencies(stated: Mapping[str, Any], size: int, *, local: bool) -> npt.NDArray[np.float64]:
    import numpy as np

    base = float(stated.get("rope.freq_base_swa" if local else "rope.freq_base", _BASE))
    frequencies = base ** (-np.arange(0, size, 2, dtype=np.float64) / size)
    kind, factor = _scaling(stated)
    return frequencies / factor if kind == "linear" and not local else frequencies


def _scaling(stated: Mapping[str, Any]) -> tuple[str, float]:
    """The kind of scaling and its factor; a factor without a kind is linear, and one of zero or one is none."""
    factor = float(stated.get("rope.scaling.factor", stated.get("rope.scale_linear", 0)) or 1)
    kind = str(stated.get("rope.scaling.type", "linear"))
    if kind == "linear" and factor == 1:
        return "none", 1.0
    return kind, factor


def _scaled(stated: Mapping[str, Any]) -> dict[str, Any]:
    kind, factor = _scaling(stated)
    if kind == "linear":
        return {"rope_type": "linear", "factor": factor}
    if kind == "yarn":
        return {
            "rope_type": "yarn",
            "factor": factor,
            "original_max_position_embeddings": stated.get(
                "rope.scaling.original_context_length", stated.get("context_length")
            ),
            "beta_fast": float(stated.get("rope.scaling.yarn_beta_fast", 32.0)),
            "beta_slow": float(stated.get("rope.scaling.yarn_beta_slow", 1.0)),
        }
    return {"rope_type": "default"}


def _refusal(key: str, stated: Mapping[str, Any]) -> str | None:
    kind, factor = _scaling(stated)
    value = stated[key]
    if key == "rope.scaling.type" and kind not in ("none", "linear", "yarn"):
        return f"{value} scaling with factor {factor:g}"
    if key in ("rope.scaling.yarn_ext_factor", "rope.scaling.yarn_attn_factor", "rope.scaling.attn_factor"):
        return None if value in (0, 1) else "no counterpart in transformers' YaRN"
    if key in ("rope.scaling.yarn_beta_fast", "rope.scaling.yarn_beta_slow") and kind != "yarn":
        return f"of YaRN, and the positions are scaled by {kind}"
    return None


def _is_off(key: str, value: Any) -> bool:
    if key == "rope.dimension_count":
        return bool(value == 0)
    return key.startswith("rope.scaling.") and value in (0, 1, "none")


def _fraction(size: int, head_size: int) -> float:
    """A part of a head, such that rounding down its product with the head's size gives the size."""
    fraction = size / head_size
    return fraction if int(head_size * fraction) == size else (size + 0.5) / head_size
