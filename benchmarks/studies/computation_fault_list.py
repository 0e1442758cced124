"""Faults of what a graph computes, rather than of its numbers: no comparison of data finds them."""

from __future__ import annotations

from functools import partial

from jisu.benchmarks.studies.faults import (
    Fault,
    attribute,
    constant,
    lose_rows_of_batches,
    nodes,
    scale_logits,
    swap_rows_of_large_batches,
)
from jisu.benchmarks.studies.graph_faults import (
    forget_far_tokens,
    halve_logits_far,
    halve_logits_of_long_calls,
    mix_rows_of_ragged_batches,
    see_padding,
    shift_positions,
    widen_window,
)

# The same of every precision: what is found in float32 has to be found behind rounded numbers, too.
_REDUCED = ("int8", "int4", "w8a8", "w8a8-dynamic")
_OF_EACH_PRECISION = tuple(
    Fault(name=f"{words}, {precision}", subject=f"llama-{precision}", damage=nodes(edit))
    for precision in _REDUCED
    for words, edit in (
        ("logits halved in calls of more than 300 tokens", halve_logits_of_long_calls),
        ("logits halved behind position 300", halve_logits_far),
        ("logits 2 % larger behind position 300", partial(halve_logits_far, factor=1.02)),
        ("rows of ragged batches mixed", mix_rows_of_ragged_batches),
    )
)
COMPUTATION = (
    Fault(name="another temperature", subject="llama", damage=nodes(scale_logits)),
    Fault(
        name="another temperature with int8 weights",
        subject="llama-int8",
        damage=nodes(lambda graph: scale_logits(graph, 3.0)),
    ),
    Fault(name="batches of more than three", subject="llama", damage=nodes(swap_rows_of_large_batches)),
    Fault(
        name="batches of more than three with int8 weights",
        subject="llama-int8",
        damage=nodes(swap_rows_of_large_batches),
    ),
    Fault(name="stale cache rows of a batch", subject="llama-portable", damage=nodes(lose_rows_of_batches)),
    Fault(
        name="another scale of attention",
        subject="llama",
        damage=nodes(attribute("GroupQueryAttention", "scale", 0.2, first_only=True)),
    ),
    Fault(
        name="neighbours rotated",
        subject="llama",
        damage=nodes(attribute("GroupQueryAttention", "rotary_interleaved", 1, first_only=True)),
    ),
    Fault(
        name="another epsilon",
        subject="llama",
        damage=nodes(attribute("SkipSimplifiedLayerNormalization", "epsilon", 0.05)),
    ),
    Fault(
        name="another epsilon of a layer norm",
        subject="gpt2",
        damage=nodes(attribute("LayerNormalization", "epsilon", 0.05)),
    ),
    *_OF_EACH_PRECISION,
    Fault(
        name="rows of ragged batches mixed",
        subject="llama",
        damage=nodes(mix_rows_of_ragged_batches),
    ),
    Fault(
        name="positions one off after a past",
        subject="llama-portable",
        damage=nodes(partial(shift_positions, behind=0)),
    ),
    Fault(
        name="positions one off after a past of 300",
        subject="llama-portable",
        damage=nodes(partial(shift_positions, behind=300)),
    ),
    Fault(
        name="positions one off after a past of 300, int8",
        subject="portable-int8",
        damage=nodes(partial(shift_positions, behind=300)),
    ),
    Fault(
        name="positions one off after a past of 300, int4",
        subject="portable-int4",
        damage=nodes(partial(shift_positions, behind=300)),
    ),
    Fault(
        name="positions one off after a past of 300, w8a8",
        subject="portable-w8a8",
        damage=nodes(partial(shift_positions, behind=300)),
    ),
    Fault(
        name="window one too wide behind position 300, int4",
        subject="window-int4",
        damage=nodes(partial(widen_window, behind=300)),
    ),
    Fault(
        name="window one too wide behind position 300, w8a8",
        subject="window-w8a8",
        damage=nodes(partial(widen_window, behind=300)),
    ),
    Fault(
        name="window one too wide, int4",
        subject="window-int4",
        damage=nodes(partial(widen_window, behind=0)),
    ),
    Fault(
        name="window one too wide, w8a8",
        subject="window-w8a8",
        damage=nodes(partial(widen_window, behind=0)),
    ),
    Fault(
        name="stale cache rows of a batch, int8",
        subject="portable-int8",
        damage=nodes(lose_rows_of_batches),
    ),
    Fault(
        name="stale cache rows of a batch, w8a8",
        subject="portable-w8a8",
        damage=nodes(lose_rows_of_batches),
    ),
    Fault(
        name="padding of the encoder seen",
        subject="marian",
        damage=nodes(partial(see_padding, mask="attention_mask"), graph="encoder.onnx"),
    ),
    Fault(
        name="padding of the source seen by the decoder",
        subject="marian",
        damage=nodes(partial(see_padding, mask="encoder_state.mask")),
    ),
    Fault(
        name="tokens of the source behind position 310 lost",
        subject="marian",
        damage=nodes(partial(forget_far_tokens, mask="attention_mask", behind=310), graph="encoder.onnx"),
    ),
    Fault(
        name="tokens of a classifier behind position 400 lost",
        subject="bert",
        damage=nodes(partial(forget_far_tokens, mask="attention_mask", behind=400)),
    ),
    Fault(
        name="padding of a classifier seen",
        subject="bert",
        damage=nodes(partial(see_padding, mask="attention_mask")),
    ),
    Fault(
        name="an activation's scale",
        subject="llama-w8a8",
        damage=constant("mul_14.input_scale", lambda array: array * 1.3),
    ),
    Fault(
        name="an activation's scale ten times smaller",
        subject="llama-w8a8",
        damage=constant("mul_15.input_scale", lambda array: array * 0.1),
    ),
    Fault(
        name="an activation's zero point",
        subject="llama-w8a8",
        damage=constant("mul_14.input_zero_point", lambda array: array + 20),
    ),
    Fault(
        name="the share of a magnitude",
        subject="llama-w8a8-dynamic",
        damage=constant("share_of_magnitude", lambda array: array * 0.25),
    ),
)
