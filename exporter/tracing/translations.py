"""torch operators that the exporter translates otherwise than torch.onnx does."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

import torch
from onnxscript.onnx_opset import opset23 as op


def translation_table() -> dict[Callable[..., Any], Callable[..., Any]]:
    """For `torch.onnx.export(custom_translation_table=...)`."""
    return {
        torch.ops.aten.scaled_dot_product_attention.default: _attention,
        torch.ops.aten.conv3d.default: _convolution,
    }


def _convolution(
    values: Any,
    weight: Any,
    bias: Any = None,
    stride: Sequence[int] = (1, 1, 1),
    padding: Sequence[int] = (0, 0, 0),
    dilation: Sequence[int] = (1, 1, 1),
    groups: int = 1,
) -> Any:
    """`Conv`-22 over three axes; onnxscript (0.7.2) makes a bias of two axes where there is none."""
    inputs = (values, weight) if bias is None else (values, weight, bias)
    strides, pads, dilations = ([*(axes if len(axes) == 3 else [*axes] * 3)] for axes in (stride, padding, dilation))
    return op.Conv(*inputs, strides=strides, pads=[*pads, *pads], dilations=dilations, group=groups)


def _attention(
    query: Any,
    key: Any,
    value: Any,
    attn_mask: Any = None,
    dropout_p: float = 0.0,
    is_causal: bool = False,  # noqa: FBT001, FBT002 - torch's own signature
    scale: float | None = None,
    enable_gqa: bool = False,  # noqa: FBT001, FBT002
) -> Any:
    """`Attention`-23, unchanged in opset 24.

    It takes any number of key heads that divides the queries'. torch.onnx (2.13) refuses fewer unless the call says so
    by ``enable_gqa``; torch itself broadcasts a single one.
    """
    size = query.shape[-1]
    factor = scale if scale is not None else 1.0 / math.sqrt(int(size))
    output, *_ = op.Attention(query, key, value, attn_mask, scale=factor, is_causal=int(is_causal))
    return output
