"""Stored tensors -> the model's weights, those that are quantized behind objects that dequantize them when read.

The tensors say what is quantized and how; what no format explains is refused by name. Whatever the tensors are, a model
that comes out of here has plain weights: its configuration no longer says that it is quantized.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jisu.exporter.contract.errors import InputError
from jisu.exporter.sources.account import Account, shorten
from jisu.exporter.sources.quantized.affine import find_hqq, find_mlx
from jisu.exporter.sources.quantized.bitsandbytes import find_four_bits
from jisu.exporter.sources.quantized.compressed import find_packed
from jisu.exporter.sources.quantized.declaration import Declaration
from jisu.exporter.sources.quantized.float4 import find_float4
from jisu.exporter.sources.quantized.float8 import find_float8
from jisu.exporter.sources.quantized.gptq import find_gptq
from jisu.exporter.sources.quantized.int8 import find_int8
from jisu.exporter.sources.quantized.methods import check_method, describe_plain
from jisu.exporter.sources.quantized.modelopt import find_modelopt, multiply_inputs
from jisu.exporter.sources.quantized.table import FLOATS, Stored, Table, stored_table
from jisu.exporter.sources.quantized.torchao import find_torchao
from jisu.exporter.sources.quantized.weight import QuantizedWeight
from jisu.exporter.sources.stored_names import match_names
from jisu.exporter.sources.stored_weights import StoredWeights

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

Finder = Callable[[Table, Declaration], Iterator[QuantizedWeight]]
FINDERS: tuple[Finder, ...] = (
    find_four_bits,
    find_gptq,
    find_packed,
    find_float4,
    find_hqq,
    find_mlx,
    find_modelopt,
    find_torchao,
    find_int8,
    find_float8,
)
# Of the inputs of products and of the cache.
_ACTIVATIONS = (
    "input_scale",
    "input_scale_ub",
    "input_global_scale",
    "input_zero_point",
    "activation_scale",
    "gate_up_proj_activation_scale",
    "down_proj_activation_scale",
    "gate_up_proj_input_scale",
    "down_proj_input_scale",
    "output_scale",
    "k_scale",
    "v_scale",
    "q_scale",
    "kv_scale",
    "prob_scale",
)
# Parts of quantized weights: left over, they belong to codes that are not there or not codes.
_PARTS = (
    ".qweight",
    ".qzeros",
    ".g_idx",
    ".weight_scale",
    ".weight_scale_inv",
    ".weight_scale_2",
    ".weight_zero_point",
    ".weight_global_scale",
    ".weight_packed",
    ".weight_shape",
    ".weight_g_idx",
    ".SCB",
    ".absmax",
    ".quant_map",
    ".W_q",
    ".pre_quant_scale",
    "_qdata",
    "_proj_scales",
    "_proj_scale_inv",
)


@dataclass(frozen=True, kw_only=True)
class Quantization:
    """How the weights of a checkpoint are quantized.

    Attributes:
        weights: those that are dequantized when they are read, by the name they would have if they were plain.
        record: method, formats and bits, for the manifest; empty where nothing is quantized or said to be.
    """

    weights: Mapping[str, QuantizedWeight]
    record: Mapping[str, Any]


def read_quantized(
    account: Account, stored: StoredWeights, declared: Declaration, empty: Any, folder: Path
) -> tuple[Account, StoredWeights, Quantization]:
    """Find the quantized weights among a folder's tensors; none of them is read yet.

    Args:
        account: to add to: a statement on every part of a quantized weight, and on what belongs to activations.
        stored: all stored tensors.
        declared: what the folder says of its quantization.
        empty: the model on the meta device.
        folder: named in errors.

    Returns:
        The account; the tensors with a plain float32 one in the place of each quantized weight's parts; and what was
        quantized.

    Raises:
        InputError: a method that cannot be read, a part that is missing or has another shape or type, or parts of
            quantized weights that belong to none.
    """
    check_method(declared, folder)
    table = stored_table(stored)
    matches = match_names(empty, table)
    needed = {name for name, match in matches.items() if match.targets}
    by_name = _find(table, declared)
    used = {part for weight in by_name.values() for part in weight.parts}
    rest = {name: one for name, one in table.items() if name not in used}
    for weight in by_name.values():
        for part, role in weight.parts.items():
            account = account.state("tensor", part, fate="used", why=f"{role} of a weight", dtype=stored.dtypes[part])
    # The cache's and the inputs' numbers stay floats here, whatever the checkpoint's own engine rounds them to.
    outside = {name: "scales of activations, which stay floats" for name in rest if _is_activation(name)}
    outside |= {name: "biases of zero" for name in rest if _is_zero_bias(name, by_name, rest)}
    outside = {name: why for name, why in outside.items() if name not in needed}
    for name, why in outside.items():
        account = account.state("tensor", name, fate="harmless", why=why, dtype=stored.dtypes[name])
    plain = {name: one for name, one in rest.items() if name not in outside}
    _refuse_left_over({name: one for name, one in plain.items() if name not in needed}, folder)
    if by_name or declared.method:
        _refuse_bare({name: one for name, one in plain.items() if name in needed}, folder)
    if table and declared.method and not by_name:
        dtypes = sorted({one.dtype for one in plain.values()})
        account = account.remark(describe_plain(declared, folder, dtypes))
    weights = _as_modules_store(by_name, empty)
    return (
        account,
        StoredWeights(
            weights={name: one.weight for name, one in plain.items()} | weights,
            shapes={name: one.shape for name, one in plain.items()}
            | {name: weight.shape for name, weight in weights.items()},
            dtypes={name: stored.dtypes[name] for name in plain} | dict.fromkeys(weights, "F32"),
            notes=stored.notes,
        ),
        Quantization(weights=weights, record=_record(by_name, declared) if by_name or declared.method else {}),
    )


def _find(table: Table, declared: Declaration) -> dict[str, QuantizedWeight]:
    by_name: dict[str, QuantizedWeight] = {}
    rest = dict(table)
    for finder in FINDERS:
        for weight in list(finder(rest, declared)):
            by_name[weight.name] = _with_inputs(weight, table)
            for part in by_name[weight.name].parts:
                rest.pop(part, None)
    return by_name


def _with_inputs(weight: QuantizedWeight, table: Table) -> QuantizedWeight:
    """The weight with the factors of its inputs in it, where there are any."""
    stem, _, last = weight.name.rpartition(".")
    channels = table.get(f"{stem}.pre_quant_scale") or table.get(f"{stem}._{last}_act_pre_scale")
    if channels is None:
        return weight
    return replace(
        weight,
        form=f"{weight.form}, inputs scaled",
        parts={**weight.parts, channels.name: "scales of the inputs"},
        read=partial(_read_with_inputs, weight, channels),
        integers=None,
        code_bits=None,
        group_size=None,
    )


def _read_with_inputs(weight: QuantizedWeight, channels: Stored) -> npt.NDArray[np.float32]:
    return multiply_inputs(weight[...].numpy(), channels)


def _is_activation(name: str) -> bool:
    return name.rpartition(".")[2] in _ACTIVATIONS


def _is_zero_bias(name: str, weights: Mapping[str, QuantizedWeight], table: Table) -> bool:
    """Whether it is a bias that some tools give to every layer, of a layer that has none."""
    stem, _, last = name.rpartition(".")
    if last != "bias" or f"{stem}.weight" not in weights or table[name].dtype not in FLOATS:
        return False
    return not table[name].floats().any()


def _as_modules_store(weights: Mapping[str, QuantizedWeight], empty: Any) -> dict[str, QuantizedWeight]:
    """Transposed where the module stores a product's weight as [K, N]; quantized, all of them are [N, K]."""
    from transformers.pytorch_utils import Conv1D

    turned = {f"{name}.weight" for name, module in empty.named_modules() if isinstance(module, Conv1D)}
    if not turned:
        return dict(weights)
    matches = match_names(empty, weights)
    return {
        name: replace(weight, shape=weight.shape[::-1], transposed=True)
        if turned.intersection(matches[name].targets)
        else weight
        for name, weight in weights.items()
    }


def _refuse_left_over(outside: Table, folder: Path) -> None:
    left = [name for name in outside if name.endswith(_PARTS)]
    if left:
        raise InputError(
            f"{folder} holds parts of quantized weights that belong to no codes",
            received=shorten(left),
            allowed="codes, scales and zero points that stand beside each other",
            fix="Download the checkpoint again, or quantize it again with the tool that wrote it.",
        )


def _refuse_bare(inside: Table, folder: Path) -> None:
    """8-bit floats without a scale, where others are codes or all are said to be."""
    bare = [name for name, one in inside.items() if one.dtype.startswith("float8")]
    if bare:
        raise InputError(
            f"{folder} holds 8-bit floats without scales",
            received=shorten(bare),
            allowed="a scale beside each weight of 8-bit floats, as weight_scale or weight_scale_inv",
            fix="Download the checkpoint again, or quantize it again with the tool that wrote it.",
        )


def _record(weights: Mapping[str, QuantizedWeight], declared: Declaration) -> dict[str, Any]:
    return {
        "method": declared.method or None,
        "declared_in": declared.origin or None,
        "formats": dict(Counter(weight.form for weight in weights.values())),
        "bits": dict(sorted(Counter(str(weight.bits) for weight in weights.values()).items())),
    }
